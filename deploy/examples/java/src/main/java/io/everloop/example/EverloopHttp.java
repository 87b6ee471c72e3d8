package io.everloop.example;

import io.everloop.ingest.IngestApi;
import io.everloop.ingest.model.Label;
import io.everloop.ingest.model.Observation;
import io.everloop.serving.ServingApi;
import io.everloop.serving.http.ApiException;
import io.everloop.serving.model.Prediction;
import io.everloop.serving.model.RequestedObservation;
import java.net.http.HttpRequest;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;

/** Ingest and serving by HTTP; the classes of requests and answers are generated from their OpenAPI documents. */
final class EverloopHttp {
  private static final Duration TIMEOUT = Duration.ofSeconds(20);
  private static final int NOT_FOUND = 404;

  private final IngestApi ingest;
  private final ServingApi serving;
  private final Retries retries;

  EverloopHttp(Settings settings, String traceparent, Retries retries) {
    Consumer<HttpRequest.Builder> headers =
        request -> {
          request.header("traceparent", traceparent);
          settings.token().ifPresent(token -> request.header("authorization", "Bearer " + token));
        };
    var toIngest = new io.everloop.ingest.http.ApiClient();
    toIngest.updateBaseUri(settings.ingest());
    toIngest.setRequestInterceptor(headers).setReadTimeout(TIMEOUT);
    var toServing = new io.everloop.serving.http.ApiClient();
    toServing.updateBaseUri(settings.serving());
    toServing.setRequestInterceptor(headers).setReadTimeout(TIMEOUT);
    this.ingest = new IngestApi(toIngest);
    this.serving = new ServingApi(toServing);
    this.retries = retries;
  }

  /** Publish an observation; it is predicted from the stream under this id. */
  void publish(String loop, String id, String entity, Map<String, Object> data) throws Exception {
    var observation = new Observation().id(id).entity(entity).data(data);
    retries.call(() -> ingest.sendEvents(loop, observation));
  }

  /** Ask for a prediction; the same id again gets the same one. */
  Prediction predict(String loop, String id, String entity, Map<String, Object> data) throws Exception {
    var observation = new RequestedObservation().id(id).entity(entity).data(data);
    return retries.call(() -> serving.predict(loop, observation, null));
  }

  /** Say what was right; the same key again is the same label. */
  void label(String loop, String id, Object label) throws Exception {
    var said = new Label().id(id).label(label).key(id + "/label");
    retries.call(() -> ingest.sendLabels(loop, said));
  }

  /** The prediction of this id, or nothing where it is not made yet. */
  Optional<Prediction> find(String loop, String id) throws Exception {
    try {
      return Optional.of(retries.call(() -> serving.getPrediction(loop, id)));
    } catch (ApiException e) {
      if (e.getCode() == NOT_FOUND) {
        return Optional.empty();
      }
      throw e;
    }
  }
}
