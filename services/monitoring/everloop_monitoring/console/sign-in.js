
"use strict";
/* Signs in with a key, with the code of an address that `everloop up` has printed, or at the provider; then goes to the
   console, and nowhere else. The loop that the reader came from is kept in this tab, and travels in no address. */

const CSRF = "everloop-csrf", STATE = "everloop-state", LOOP = "everloop-loop";
const byId = id => document.getElementById(id);

async function post(way, body) {
  const answer = await fetch("sign-in/" + way, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const said = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(said?.detail ?? `monitoring answers ${answer.status}`);
  return said;
}

function enter({ csrf }) {
  localStorage.setItem(CSRF, csrf);
  const loop = sessionStorage.getItem(LOOP) ?? "";
  sessionStorage.removeItem(LOOP);
  location.replace("./" + loop);
}

/* Does one way to sign in; where it fails the reader can take another. */
async function attempt(way) {
  byId("said").hidden = byId("ways").hidden = true;
  byId("waiting").hidden = false;
  try {
    await way();
  } catch (error) {
    byId("waiting").hidden = true;
    byId("said").textContent = "✗ " + error.message;
    byId("said").hidden = byId("ways").hidden = false;
    byId("key").focus();
  }
}

async function goToProvider() {
  const { address, state } = await post("provider", {});
  sessionStorage.setItem(STATE, state);
  location.assign(address);
}

/* The provider's answer counts in the tab that asked for it. */
async function comeBack(query) {
  const state = sessionStorage.getItem(STATE);
  sessionStorage.removeItem(STATE);
  if (!state || query.get("state") !== state) throw new Error("The answer belongs to no sign-in of this tab; sign in again.");
  if (!query.get("code")) throw new Error(`The provider did not sign you in: ${query.get("error") ?? "no reason"}.`);
  const iss = query.get("iss");
  enter(await post("return", { code: query.get("code"), state, ...(iss ? { iss } : {}) }));
}

function start() {
  const query = new URLSearchParams(location.search), fragment = new URLSearchParams(location.hash.slice(1)), code = fragment.get("code");
  if (!code && !query.has("state") && location.hash) sessionStorage.setItem(LOOP, location.hash);
  history.replaceState(null, "", location.pathname);
  if (code) return attempt(async () => enter(await post("code", { code })));
  if (query.has("state")) return attempt(() => comeBack(query));
  byId("ways").hidden = false;
  byId("key").focus();
}

byId("by-key").addEventListener("submit", event => {
  event.preventDefault();
  const token = byId("key").value.trim();
  byId("key").value = "";
  if (token) attempt(async () => enter(await post("key", { token })));
});
byId("provider").addEventListener("click", () => attempt(goToProvider));
start();
