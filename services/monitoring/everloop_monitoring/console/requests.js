
/* Asks monitoring. A session has two halves: its cookie, and what signing in has left with this origin for its scripts. */

const CSRF = "everloop-csrf";

class SignedOut extends Error {}
class Refused extends Error {}

function csrfToken() {
  try {
    return localStorage.getItem(CSRF);
  } catch {
    return null; /* a browser that keeps nothing can look where nobody has to sign in */
  }
}

function request(path, { method = "GET", body } = {}) {
  const csrf = csrfToken();
  const headers = { ...(csrf ? { "x-csrf-token": csrf } : {}), ...(body ? { "content-type": "application/json" } : {}) };
  return fetch(path, { method, headers, body: body && JSON.stringify(body) });
}

const problemText = (problem, status) => problem?.detail ?? `monitoring answers ${status}`;

async function get(path) {
  const answer = await request(path);
  if (answer.ok) return answer.json();
  const text = problemText(await answer.json().catch(() => null), answer.status);
  if (answer.status === 401) throw new SignedOut(text);
  throw answer.status === 403 ? new Refused(text) : new Error(`${path}: ${text}`);
}

/* Gives a command, and says what became of it: by `done` of its answer, or as what it was `refused`, or left `unsure`. */
async function post(path, body, { done, refused, unsure }) {
  try {
    const answer = await request(path, { method: "POST", body });
    const said = await answer.json().catch(() => null);
    if (!answer.ok) return { failed: true, text: `${refused}: ${problemText(said, answer.status)}`, errors: said?.errors };
    return { text: done(said) };
  } catch (error) {
    return { failed: true, text: `Monitoring does not answer, so it may have been ${unsure}. ${error.message}` };
  }
}

async function signOut() {
  const answer = await request("v1/session", { method: "DELETE" });
  if (!answer.ok && answer.status !== 401) return;
  localStorage.removeItem(CSRF);
  location.replace("sign-in");
}
