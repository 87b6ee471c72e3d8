package io.everloop.example;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;

/** Where Everloop is and who asks, from the environment variables that every client of Everloop reads. */
record Settings(String ingest, String serving, String grpc, Optional<String> token) {

  static Settings read(Map<String, String> env) throws IOException {
    String file = env.get("EVERLOOP_TOKEN_FILE");
    String token = file == null ? null : Files.readString(Path.of(file)).strip();
    return new Settings(
        env.getOrDefault("EVERLOOP_INGEST_URL", "http://127.0.0.1:8001"),
        env.getOrDefault("EVERLOOP_SERVING_URL", "http://127.0.0.1:8005"),
        env.getOrDefault("EVERLOOP_SERVING_GRPC", "127.0.0.1:8015"),
        Optional.ofNullable(env.getOrDefault("EVERLOOP_TOKEN", token)));
  }
}
