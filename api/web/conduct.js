// A room before and while it records: what must be said and seen (R11), ticked with its moment, and what is planned.

import { askJson, byId, guarded, make, state, when, word } from "./common.js";

const nameOf = (point) => (state.language === "en" && point.en) || point.zh;
const clock = (ms) => `+${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;
// Which lists are open, by session: they stay open while the rows around them are drawn anew.
const opened = new Set();

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
  const form = event.target, { room_no, starts_at, ends_at, case_no, officers, party, ends_itself } = form.elements;
  const numbers = officers.value.split(/[\s,,、]+/).filter(Boolean);
  const facts = { ...(case_no.value && { case_no: case_no.value }), ...(numbers.length && { officers: numbers }), ...(party.value && { party: party.value }) };
  await askJson("POST", "/api/v1/planned-sessions", { room_no: room_no.value, starts_at: starts_at.value, ends_at: ends_at.value, ends_itself: ends_itself.checked, facts });
  form.reset();
  document.activeElement?.blur();
  await drawPlans();
}));
