// Ingest and serving by HTTP; paths, bodies and answers have the types that were generated from their OpenAPI documents.
import createClient, { type Client } from "openapi-fetch";

import type { components as ServingComponents, paths as ServingPaths } from "./generated/serving.js";
import type { paths as IngestPaths } from "./generated/ingest.js";
import type { Settings } from "./settings.js";

export type Fields = Record<string, boolean | number | string | null>;
export type Prediction = ServingComponents["schemas"]["Prediction"];

interface Answer<T> {
  data?: T;
  error?: { title?: string; detail?: string; errors?: unknown };
  response: Response;
}

export class EverloopHttp {
  private readonly ingest: Client<IngestPaths>;
  private readonly serving: Client<ServingPaths>;

  constructor(settings: Settings, traceparent: string, fetch: (request: Request) => Promise<Response>) {
    const headers: Record<string, string> = { traceparent };
    if (settings.token) headers.authorization = `Bearer ${settings.token}`;
    this.ingest = createClient<IngestPaths>({ baseUrl: settings.ingest, headers, fetch });
    this.serving = createClient<ServingPaths>({ baseUrl: settings.serving, headers, fetch });
  }

  /** Publish an observation; it is predicted from the stream under this id. */
  async publish(loop: string, id: string, entity: string, data: Fields): Promise<void> {
    succeeded(await this.ingest.POST("/v1/loops/{loop}/events", { params: { path: { loop } }, body: { id, entity, data } }));
  }

  /** Ask for a prediction; the same id again gets the same one. */
  async predict(loop: string, id: string, entity: string, data: Fields): Promise<Prediction> {
    const answer = succeeded(
      await this.serving.POST("/v1/loops/{loop}/predict", { params: { path: { loop } }, body: { id, entity, data } }),
    );
    if (typeof answer === "string" || Array.isArray(answer)) throw new Error("one observation has one answer");
    return answer;
  }

  /** Say what was right; the same key again is the same label. */
  async label(loop: string, id: string, label: boolean | number | string): Promise<void> {
    const body = { id, label, key: `${id}/label` };
    succeeded(await this.ingest.POST("/v1/loops/{loop}/labels", { params: { path: { loop } }, body }));
  }

  /** The prediction of this id, or nothing where it is not made yet. */
  async find(loop: string, id: string): Promise<Prediction | undefined> {
    const path = { loop, prediction_id: id };
    const found = await this.serving.GET("/v1/loops/{loop}/predictions/{prediction_id}", { params: { path } });
    return found.response.status === 404 ? undefined : succeeded(found);
  }
}

function succeeded<T>({ data, error, response }: Answer<T>): T {
  if (data !== undefined) return data;
  throw new Error(`${response.url}: ${response.status} ${JSON.stringify(error)}`);
}
