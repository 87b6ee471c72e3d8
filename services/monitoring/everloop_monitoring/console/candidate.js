
/* The candidate of a rollout: what it waits for, and what people may say about it. The registry decides. */

const verdict = { reason: "", said: null, isBusy: false };
const DONE = { approve: "Approved.", reject: "Rejected: the champion stays.", promote: "Promoted." };

function clearVerdict() {
  Object.assign(verdict, { reason: "", said: null, isBusy: false });
}

function candidate({ loop, rollout, asker, may }) {
  const { candidate: version, stage, share, approval } = rollout;
  const pair = (name, ...what) => [el("dt", {}, name), el("dd", {}, ...what)];
  const facts = el("dl", {}, pair("version", version), pair("stage", `${stage}, ${percent(share, 0)} of the traffic`), approval && [
    pair("waits for", `${approval.approvals} ${approval.approvals === 1 ? "approval" : "approvals"} ${approval.step.replace("_", " ")}`),
    pair("approved by", approval.approved_by.join(", ") || "nobody yet"), pair("until", time(approval.expires))]);
  return [facts, ...saying({ loop, version, approval, asker, may }), verdict.isBusy && note("asking the registry"), outcome(verdict.said)];
}

/* The reason and the buttons, or why there are none. */
function saying({ loop, version, approval, asker, may }) {
  if (!may.includes("rollout.change")) return [note("To approve, reject or promote it takes the role operator for this loop.")];
  if (!asker.verdicts) {
    return [note("Monitoring does not know the registry's address (EVERLOOP_REGISTRY_URL). By the command line:"),
      el("pre", {}, `everloop approve ${loop} --reason TEXT\neverloop reject ${loop} --reason TEXT\neverloop promote ${loop} --reason TEXT`)];
  }
  const hasApproved = approval?.approved_by.includes(asker.subject), waits = approval && approval.approved_by.length < approval.approvals;
  const reason = el("textarea", { id: "reason", "data-key": "reason", value: verdict.reason, rows: 2, maxLength: 1000,
    oninput: event => { verdict.reason = event.target.value } });
  const act = (name, text, why) => el("button", { type: "button", className: "action", "data-key": name, title: why || "",
    "aria-disabled": String(Boolean(why) || verdict.isBusy), onclick: () => why || verdict.isBusy || say(name, loop, version) }, text);
  const why = [hasApproved && "You have approved of it.", waits && "It can be promoted once it has its approvals."].filter(Boolean);
  return [el("label", { for: "reason", className: "above" }, "Reason, for the history"), reason, el("p", { className: "actions" },
    approval && act("approve", "Approve", hasApproved && why[0]), act("reject", "Reject"), act("promote", "Promote", waits && why.at(-1))),
  why.length > 0 && note(why.join(" "))];
}

async function say(name, loop, version) {
  const reason = verdict.reason.trim();
  verdict.said = reason ? null : { failed: true, text: "Say why: the history keeps the reason." };
  verdict.isBusy = Boolean(reason);
  redraw("candidate-body");
  if (!reason) return byId("reason").focus();
  verdict.said = await post(`v1/loops/${encodeURIComponent(loop)}/${name}`, { reason, version },
    { done: () => DONE[name], refused: "Not done", unsure: "done or not" });
  verdict.isBusy = false;
  if (!verdict.said.failed) verdict.reason = "";
  if (drawn.has("candidate-body")) redraw("candidate-body");
  last.status = "";
  await tick();
}
