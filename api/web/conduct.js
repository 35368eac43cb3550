// A room before and while it records: its session begun, marked, paused and ended; what must be said and seen (R11),
// ticked with its moment; and what is planned.

import { askJson, byId, guarded, make, notice, state, when, word } from "./common.js";

const nameOf = (point) => (state.language === "en" && point.en) || point.zh;
const clock = (ms) => `+${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;
// Which lists are open, by session: they stay open while the rows around them are drawn anew.
const opened = new Set();

// -- a session begun, marked, paused and ended --------------------------------------------------

const numbersOf = (typed) => typed.split(/[\s,,、]+/).filter(Boolean);

// Only what was typed: what is left out is not stated.
function factsOf({ case_no, officers, party, object_of_proof }) {
  const numbers = numbersOf(officers.value), lines = { case_no, party, object_of_proof };
  const stated = Object.entries(lines).map(([name, field]) => [name, field?.value.trim()]).filter(([, value]) => value);
  return { ...Object.fromEntries(stated), ...(numbers.length && { officers: numbers }) };
}

// For whoever may run it, while it lasts. redraw reads the list anew.
export function conducting(session, redraw) {
  const path = `/api/v1/room-sessions/${session.id}`, room = session.room_name;
  // A button that was pressed waits for its answer; the list is not drawn anew under whoever writes in it.
  const act = (told, way, body) => guarded(async (event) => {
    const button = event.submitter || event.currentTarget;
    button.disabled = true;
    try { await askJson("POST", `${path}/${way}`, body?.()); } finally { button.disabled = false; }
    notice(word(told, { room }));
    document.activeElement?.blur();
    await redraw();
  });
  const stop = act("sessionStopped", "stop");
  const end = make("button", { type: "button", class: "small", onclick: (event) => { if (confirm(word("stopAsk", { room }))) stop(event); } }, word("stopSession"));
  if (session.paused_since) return make("div", { class: "row" }, make("button", { type: "button", class: "small", onclick: act("sessionResumed", "resume") }, word("resumeSession")), end);
  const key = crypto.randomUUID?.();
  const text = line("markText"), why = line("pauseStatement");
  const reason = make("select", { "aria-label": word("pauseReason") }, ...Object.entries(word("gapReasons")).map(([value, said]) => make("option", { value }, said)));
  return make("div", { class: "row" },
    make("form", { class: "row", onsubmit: act("sessionMarked", "markers", () => ({ text: text.value, ...(key && { key }) })) }, text, make("button", { class: "small quiet" }, word("markSession"))),
    make("form", { class: "row", onsubmit: act("sessionPaused", "pause", () => ({ reason: reason.value, statement: why.value })) }, reason, why, make("button", { class: "small quiet" }, word("pauseSession"))),
    end);
}

const line = (name) => make("input", { "aria-label": word(name), placeholder: word(name), maxlength: "500", required: "" });

// Rooms that are not in use; who may run no session sees nothing of it.
export function offerStart(me, redraw) {
  const box = byId("start-box"), form = byId("start-form");
  box.hidden = !me.acts.includes("run_sessions");
  box.open = false;
  box.ontoggle = guarded(async () => {
    if (!box.open) return;
    const free = (await askJson("GET", "/api/v1/rooms")).filter((room) => !room.session);
    form.elements.room_no.replaceChildren(...free.map((room) => make("option", { value: room.room_no }, room.name)));
    form.hidden = !free.length;
    byId("start-none").hidden = Boolean(free.length);
  });
  form.onsubmit = guarded(async (event) => {
    event.submitter.disabled = true;
    try { await askJson("POST", "/api/v1/room-sessions", { room_no: form.elements.room_no.value, facts: factsOf(form.elements) }); } finally { event.submitter.disabled = false; }
    notice(word("sessionStarted", { room: form.elements.room_no.selectedOptions[0].textContent }));
    form.reset();
    box.open = false;
    await redraw();
  });
}

// -- the checklist of a session -----------------------------------------------------------------

export function checklistOf(session) {
  const list = make("ul", { class: "points" });
  const box = make("details", { class: "points-box", ontoggle: guarded(async () => {
    if (!box.open) { opened.delete(session.id); return; }
    opened.add(session.id);
    await show(await askJson("GET", `/api/v1/room-sessions/${session.id}/checklist`));
  }) }, make("summary", {}, word("checklist")), list);
  const show = (found) => {
    list.replaceChildren(...found.points.map((point) => pointOf(session, point, show)));
    box.firstChild.textContent = word("checklistOpen", { open: found.open.length, all: found.points.length });
  };
  box.open = opened.has(session.id);
  return box;
}

function pointOf(session, point, show) {
  const say = (way, body) => guarded(async () => show(await askJson("POST", `/api/v1/room-sessions/${session.id}/${way}`, { point: point.point, ...body() })));
  const said = point.is_shown ? `${clock(point.offset_ms)} · ${when(point.at)}` : point.text;
  const name = make("span", { class: point.is_shown ? "chip good" : "chip wait" }, `${point.is_shown ? "✓" : "·"} ${nameOf(point)}`);
  if (!state.me?.acts.includes("run_sessions")) return make("li", { "data-point": point.point }, name, make("span", {}, said));
  const key = crypto.randomUUID?.();
  const tick = make("button", { type: "button", class: "quiet small", onclick: say("points", () => (key ? { key } : {})) }, word("tickPoint"));
  const why = make("input", { "aria-label": word("pointReason"), placeholder: word("pointReason"), maxlength: "500", required: "" });
  const form = make("form", { class: "row", onsubmit: say("point-reasons", () => ({ statement: why.value })) }, why, make("button", { class: "quiet small" }, word("explainPoint")));
  return make("li", { "data-point": point.point }, name, make("span", {}, said), point.is_shown ? null : tick, form);
}

// -- what is planned ----------------------------------------------------------------------------

export async function drawPlans() {
  const box = byId("plans"), { token } = state;
  const [plans, rooms] = await Promise.all([askJson("GET", "/api/v1/planned-sessions"), askJson("GET", "/api/v1/rooms")]);
  // While somebody plans one, the form stays as it is.
  if (token !== state.token || byId("plan-form").contains(document.activeElement)) return;
  box.replaceChildren(...(plans.length ? plans.map(planOf) : [make("li", {}, word("noPlans"))]));
  const mayPlan = Boolean(state.me?.acts.includes("run_sessions")) && rooms.length > 0;
  byId("plan-form").hidden = !mayPlan;
  const chosen = byId("plan-form").elements.room_no;
  const before = chosen.value;
  chosen.replaceChildren(...rooms.map((room) => make("option", { value: room.room_no }, room.name)));
  if (rooms.some((room) => room.room_no === before)) chosen.value = before;
}

function planOf(plan) {
  const isAhead = ["ahead", "waiting"].includes(plan.state) && plan.may_read && state.me?.acts.includes("run_sessions");
  const missing = plan.missing.length ? word("planMissing", { names: plan.missing.map((name) => word("planFacts")[name] || name).join(word("comma")) }) : "";
  const withdraw = isAhead && make("button", { type: "button", class: "quiet small", onclick: guarded(async () => {
    await askJson("DELETE", `/api/v1/planned-sessions/${plan.id}`);
    await drawPlans();
  }) }, word("withdrawPlan"));
  return make("li", {}, make("b", {}, plan.room_no), make("span", {}, `${when(plan.starts_at)} – ${when(plan.ends_at)}`),
    make("span", {}, plan.facts?.case_no || ""), make("span", { class: "chip wait" }, word("planStates")[plan.state] || plan.state),
    missing && make("span", { class: "wait" }, missing), withdraw || null);
}

byId("plan-form").addEventListener("submit", guarded(async (event) => {
  const form = event.target, { room_no, starts_at, ends_at, ends_itself } = form.elements, facts = factsOf(form.elements);
  await askJson("POST", "/api/v1/planned-sessions", { room_no: room_no.value, starts_at: starts_at.value, ends_at: ends_at.value, ends_itself: ends_itself.checked, facts });
  form.reset();
  document.activeElement?.blur();
  await drawPlans();
}));
