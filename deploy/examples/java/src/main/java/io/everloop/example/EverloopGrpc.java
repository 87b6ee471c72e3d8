package io.everloop.example;

import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.OpenInference.InferParameter;
import inference.OpenInference.InferTensorContents;
import inference.OpenInference.ModelInferRequest;
import inference.OpenInference.ModelInferResponse;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Predictions by gRPC: the Open Inference Protocol, with a stub that is generated from its .proto file. */
final class EverloopGrpc implements AutoCloseable {
  private static final long DEADLINE_S = 20;
  private static final Map<String, ?> RETRY_POLICY =
      Map.of(
          "maxAttempts", 5.0,
          "initialBackoff", "1s",
          "maxBackoff", "5s",
          "backoffMultiplier", 2.0,
          "retryableStatusCodes", List.of("UNAVAILABLE", "RESOURCE_EXHAUSTED"));
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "methodConfig",
          List.of(
              Map.of(
                  "name", List.of(Map.of("service", GRPCInferenceServiceGrpc.SERVICE_NAME)),
                  "retryPolicy", RETRY_POLICY)));

  private final ManagedChannel channel;
  private final GRPCInferenceServiceGrpc.GRPCInferenceServiceBlockingStub stub;

  /** What was predicted, and by which version. */
  record Inferred(String id, boolean prediction, String version) {}

  EverloopGrpc(Settings settings, String traceparent) {
    channel =
        Grpc.newChannelBuilder(settings.grpc(), InsecureChannelCredentials.create())
            .defaultServiceConfig(SERVICE_CONFIG)
            .enableRetry()
            .build();
    var metadata = new Metadata();
    metadata.put(key("traceparent"), traceparent);
    settings.token().ifPresent(token -> metadata.put(key("authorization"), "Bearer " + token));
    stub =
        GRPCInferenceServiceGrpc.newBlockingStub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  /** Ask for a prediction of one row; the same id again gets the same one. */
  Inferred predict(String loop, String id, String entity, double price, String plan) {
    var request =
        ModelInferRequest.newBuilder()
            .setModelName(loop)
            .setId(id)
            .putParameters("entity", InferParameter.newBuilder().setStringParam(entity).build())
            .addInputs(tensor("price", "FP64", InferTensorContents.newBuilder().addFp64Contents(price)))
            .addInputs(
                tensor("plan", "BYTES", InferTensorContents.newBuilder().addBytesContents(ByteString.copyFromUtf8(plan))))
            .build();
    var answer = stub.withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS).modelInfer(request);
    return new Inferred(answer.getId(), predictionOf(answer), answer.getModelVersion());
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  private static ModelInferRequest.InferInputTensor.Builder tensor(
      String name, String datatype, InferTensorContents.Builder contents) {
    return ModelInferRequest.InferInputTensor.newBuilder()
        .setName(name)
        .setDatatype(datatype)
        .addShape(1)
        .setContents(contents);
  }

  private static boolean predictionOf(ModelInferResponse answer) {
    return answer.getOutputsList().stream()
        .filter(output -> output.getName().equals("prediction"))
        .findFirst()
        .orElseThrow(() -> new IllegalStateException("no prediction in " + answer))
        .getContents()
        .getBoolContents(0);
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }
}
