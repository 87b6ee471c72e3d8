package io.everloop.example;

import java.io.IOException;
import java.net.http.HttpHeaders;
import java.time.Duration;
import java.time.Instant;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/** Sends a request again where a retry can succeed. That never counts twice, as each request names its own ids. */
final class Retries {
  private static final Set<Integer> RETRIED = Set.of(408, 429, 502, 503, 504);
  private static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  private static final Duration LONGEST_PAUSE = Duration.ofSeconds(5);

  private final Duration giveUpAfter;
  private int count;

  Retries(Duration giveUpAfter) {
    this.giveUpAfter = giveUpAfter;
  }

  /** How often a request was sent again. */
  int count() {
    return count;
  }

  /** One sending of a request; the generated clients of both services throw one of these. */
  interface Request<T> {
    T send() throws io.everloop.ingest.http.ApiException, io.everloop.serving.http.ApiException;
  }

  /** Waits as long as Retry-After says, or longer each time; throws the last failure when it gives up. */
  <T> T call(Request<T> request) throws Exception {
    Instant until = Instant.now().plus(giveUpAfter);
    for (int attempt = 0; ; attempt++) {
      Exception failure;
      Duration pause;
      try {
        return request.send();
      } catch (io.everloop.ingest.http.ApiException e) {
        failure = e;
        pause = pause(e.getCode(), e.getResponseHeaders(), e.getCause(), attempt);
      } catch (io.everloop.serving.http.ApiException e) {
        failure = e;
        pause = pause(e.getCode(), e.getResponseHeaders(), e.getCause(), attempt);
      }
      if (pause == null || Instant.now().plus(pause).isAfter(until)) {
        throw failure;
      }
      count++;
      Thread.sleep(pause.toMillis());
    }
  }

  /** Null where a retry cannot succeed. */
  private static Duration pause(int status, HttpHeaders headers, Throwable cause, int attempt) {
    boolean unanswered = status == 0 && cause instanceof IOException;
    if (!unanswered && !RETRIED.contains(status)) {
      return null;
    }
    var named = headers == null ? OptionalLong.empty() : headers.firstValueAsLong("retry-after");
    return named.isPresent() ? Duration.ofSeconds(named.getAsLong()) : backoff(attempt);
  }

  private static Duration backoff(int attempt) {
    long longest = Math.min(FIRST_PAUSE.toMillis() << Math.min(attempt, 10), LONGEST_PAUSE.toMillis());
    return Duration.ofMillis(ThreadLocalRandom.current().nextLong(longest / 2, longest + 1));
  }
}
