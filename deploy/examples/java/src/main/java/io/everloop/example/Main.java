package io.everloop.example;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.everloop.serving.model.Prediction;
import java.security.SecureRandom;
import java.time.Duration;
import java.time.Instant;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Closes a loop once: publish, predict by HTTP and by gRPC, label, read the answers. Again: nothing counts twice. */
public final class Main {
  private static final String USE =
      "use: java -jar target/everloop-example.jar LOOP ID    "
          + "(LOOP has the fields price and plan; ID begins the ids of what is sent)";
  private static final Duration GIVE_UP_AFTER = Duration.ofSeconds(60);
  private static final Duration BETWEEN_QUESTIONS = Duration.ofMillis(100);
  private static final String ENTITY = "shop-3";

  private Main() {}

  public static void main(String[] arguments) {
    if (arguments.length != 2) {
      System.err.println(USE);
      System.exit(2);
    }
    try {
      System.out.println(new ObjectMapper().writeValueAsString(closeLoop(arguments[0], arguments[1])));
    } catch (Exception e) {
      System.err.println(e.getMessage());
      System.exit(1);
    }
  }

  private static Map<String, Object> closeLoop(String loop, String id) throws Exception {
    var settings = Settings.read(System.getenv());
    String trace = randomHex(16);
    String traceparent = "00-" + trace + "-" + randomHex(8) + "-01";
    var retries = new Retries(GIVE_UP_AFTER);
    var http = new EverloopHttp(settings, traceparent, retries);
    try (var grpc = new EverloopGrpc(settings, traceparent)) {
      var answers = new LinkedHashMap<String, Object>();
      http.publish(loop, id + "-published", ENTITY, Map.of("price", 12.5, "plan", "pro"));
      answers.put("predicted", http.predict(loop, id + "-http", ENTITY, Map.of("price", 3, "plan", "free")));
      answers.put("again", http.predict(loop, id + "-http", ENTITY, Map.of("price", 3, "plan", "free")));
      answers.put("inferred", grpc.predict(loop, id + "-grpc", ENTITY, 9, "pro"));
      answers.put("published", found(http, loop, id + "-published"));
      for (String each : List.of("published", "http", "grpc")) {
        http.label(loop, id + "-" + each, !each.equals("http"));
      }
      answers.put("trace", trace);
      answers.put("retries", retries.count());
      return answers;
    }
  }

  private static Prediction found(EverloopHttp http, String loop, String id) throws Exception {
    Instant until = Instant.now().plus(GIVE_UP_AFTER);
    while (Instant.now().isBefore(until)) {
      var prediction = http.find(loop, id);
      if (prediction.isPresent()) {
        return prediction.get();
      }
      Thread.sleep(BETWEEN_QUESTIONS.toMillis());
    }
    throw new IllegalStateException(id + " was not predicted within " + GIVE_UP_AFTER.toSeconds() + " s");
  }

  private static String randomHex(int bytes) {
    byte[] random = new byte[bytes];
    new SecureRandom().nextBytes(random);
    return HexFormat.of().formatHex(random);
  }
}
