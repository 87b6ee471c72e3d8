// Sends a request again where a retry can succeed. That never counts twice, as each request names its own ids.
import { setTimeout as pause } from "node:timers/promises";

const RETRIED = new Set([408, 429, 502, 503, 504]);
const FIRST_PAUSE_S = 0.1;
const LONGEST_PAUSE_S = 5;

export interface Retried {
  fetch: (request: Request) => Promise<Response>;
  /** how often a request was sent again */
  readonly count: number;
}

/** A fetch that waits as long as `Retry-After` says, or longer each time, and gives up after so many seconds. */
export function retrying(giveUpAfterS: number): Retried {
  const retried = { count: 0, fetch: send };

  async function send(request: Request): Promise<Response> {
    const until = Date.now() + giveUpAfterS * 1000;
    for (let attempt = 0; ; attempt++) {
      const [response, failure] = await attemptOnce(request.clone());
      if (response && !RETRIED.has(response.status)) return response;
      const pauseS = retryAfter(response) ?? Math.min(FIRST_PAUSE_S * 2 ** attempt, LONGEST_PAUSE_S) * (0.5 + Math.random() / 2);
      if (Date.now() + pauseS * 1000 > until) {
        if (response) return response;
        throw failure;
      }
      await response?.body?.cancel();
      retried.count += 1;
      await pause(pauseS * 1000);
    }
  }
  return retried;
}

async function attemptOnce(request: Request): Promise<[Response | undefined, unknown]> {
  try {
    return [await fetch(request), undefined];
  } catch (failure) {
    return [undefined, failure]; // nobody answered, or the connection was lost
  }
}

function retryAfter(response: Response | undefined): number | undefined {
  const value = response?.headers.get("retry-after");
  return value && /^\d+$/.test(value) ? Number(value) : undefined;
}
