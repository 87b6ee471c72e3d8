// Where Everloop is and who asks, from the environment variables that every client of Everloop reads.
import { readFileSync } from "node:fs";

export interface Settings {
  ingest: string;
  serving: string;
  /** host and port of serving's gRPC */
  grpc: string;
  /** what every request carries where the installation asks who it is from */
  token: string | undefined;
}

export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const file = env.EVERLOOP_TOKEN_FILE;
  return {
    ingest: env.EVERLOOP_INGEST_URL ?? "http://127.0.0.1:8001",
    serving: env.EVERLOOP_SERVING_URL ?? "http://127.0.0.1:8005",
    grpc: env.EVERLOOP_SERVING_GRPC ?? "127.0.0.1:8015",
    token: env.EVERLOOP_TOKEN ?? (file ? readFileSync(file, "utf8").trim() : undefined),
  };
}
