// Predictions by gRPC: the Open Inference Protocol, with types that were generated from its .proto file.
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import type { ModelInferResponse__Output } from "./generated/inference/ModelInferResponse.js";
import type { GRPCInferenceServiceClient } from "./generated/inference/GRPCInferenceService.js";
import type { ProtoGrpcType } from "./generated/open_inference.js";
import type { Settings } from "./settings.js";

const PROTOCOL = "../../../../services/serving/everloop_serving/api/open_inference_grpc/protocol/open_inference.proto";
const DEADLINE_MS = 20_000;
const RETRY_POLICY = {
  maxAttempts: 5,
  initialBackoff: "1s",
  maxBackoff: "5s",
  backoffMultiplier: 2,
  retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
};
const SERVICE_CONFIG = { loadBalancingConfig: [], methodConfig: [{ name: [{ service: "inference.GRPCInferenceService" }], retryPolicy: RETRY_POLICY }] };

export interface Inferred {
  id: string;
  prediction: boolean;
  version: string;
}

export class EverloopGrpc {
  private readonly client: GRPCInferenceServiceClient;
  private readonly metadata = new grpc.Metadata();

  constructor(settings: Settings, traceparent: string) {
    const definition = loadSync(fileURLToPath(new URL(PROTOCOL, import.meta.url)), { longs: Number });
    const { inference } = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType;
    const options = { "grpc.service_config": JSON.stringify(SERVICE_CONFIG) };
    this.client = new inference.GRPCInferenceService(settings.grpc, grpc.credentials.createInsecure(), options);
    this.metadata.set("traceparent", traceparent);
    if (settings.token) this.metadata.set("authorization", `Bearer ${settings.token}`);
  }

  /** Ask for a prediction of one row; the same id again gets the same one. */
  async predict(loop: string, id: string, entity: string, price: number, plan: string): Promise<Inferred> {
    const request = {
      modelName: loop,
      id,
      parameters: { entity: { stringParam: entity } },
      inputs: [
        { name: "price", datatype: "FP64", shape: [1], contents: { fp64Contents: [price] } },
        { name: "plan", datatype: "BYTES", shape: [1], contents: { bytesContents: [Buffer.from(plan)] } },
      ],
    };
    const answer = await new Promise<ModelInferResponse__Output>((resolve, reject) => {
      const deadline = Date.now() + DEADLINE_MS;
      this.client.modelInfer(request, this.metadata, { deadline }, (error, value) => (value ? resolve(value) : reject(error)));
    });
    return { id: answer.id ?? "", prediction: predictionOf(answer), version: answer.modelVersion ?? "" };
  }

  close(): void {
    this.client.close();
  }
}

function predictionOf(answer: ModelInferResponse__Output): boolean {
  const output = answer.outputs?.find((each) => each.name === "prediction");
  const value = output?.contents?.boolContents?.[0];
  if (value === undefined) throw new Error(`no prediction in ${JSON.stringify(answer)}`);
  return value;
}
