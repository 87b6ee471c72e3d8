// Closes a loop once: publish, predict by HTTP and by gRPC, label, and read the answers. Run it again: nothing counts twice.
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import { EverloopGrpc } from "./inference.js";
import { EverloopHttp, type Prediction } from "./http.js";
import { readSettings } from "./settings.js";
import { retrying } from "./retries.js";

const USE = "use: node dist/main.js LOOP ID    (LOOP has the fields price and plan; ID begins the ids of what is sent)";
const GIVE_UP_AFTER_S = 60;
const ENTITY = "shop-3";

async function main(loop: string, id: string): Promise<void> {
  const settings = readSettings(process.env);
  const trace = randomBytes(16).toString("hex");
  const traceparent = `00-${trace}-${randomBytes(8).toString("hex")}-01`;
  const retried = retrying(GIVE_UP_AFTER_S);
  const http = new EverloopHttp(settings, traceparent, retried.fetch);
  const grpc = new EverloopGrpc(settings, traceparent);
  try {
    await http.publish(loop, `${id}-published`, ENTITY, { price: 12.5, plan: "pro" });
    const predicted = await http.predict(loop, `${id}-http`, ENTITY, { price: 3, plan: "free" });
    const again = await http.predict(loop, `${id}-http`, ENTITY, { price: 3, plan: "free" });
    const inferred = await grpc.predict(loop, `${id}-grpc`, ENTITY, 9, "pro");
    const published = await found(http, loop, `${id}-published`);
    for (const each of ["published", "http", "grpc"]) await http.label(loop, `${id}-${each}`, each !== "http");
    const answers = { published, predicted, again, inferred };
    console.log(JSON.stringify({ trace, retries: retried.count, ...answers }));
  } finally {
    grpc.close();
  }
}

async function found(http: EverloopHttp, loop: string, id: string): Promise<Prediction> {
  const until = Date.now() + GIVE_UP_AFTER_S * 1000;
  while (Date.now() < until) {
    const prediction = await http.find(loop, id);
    if (prediction) return prediction;
    await pause(100);
  }
  throw new Error(`${id} was not predicted within ${GIVE_UP_AFTER_S} s`);
}

const [loop, id] = process.argv.slice(2);
if (!loop || !id) {
  console.error(USE);
  process.exit(2);
}
try {
  await main(loop, id);
} catch (failure) {
  console.error(failure instanceof Error ? failure.message : failure);
  process.exit(1);
}
