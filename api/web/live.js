// Sessions of rooms while they are recorded: which run, and one of them watched, its streams in step.
//
// Where live is follows from the lists alone: the newest picture told, plus the time that passed here since, less what
// a segment and its way take. So no clock of this machine has to be right.

import { Problem, askJson, byId, guarded, localTime, make, microsOf, notice, pause, state, textOf, when, word } from "./common.js";
import { checklistOf, conducting, drawPlans, offerStart } from "./conduct.js";
import { LiveMaskTool, liftLiveMask } from "./live_mask.js";
import { Source } from "./source.js";
import { Wall, end } from "./wall.js";

const LIST_MS = 10000;
const REFRESH_MS = 500;
const LOOK_MS = 3000;
const ROOM_US = 1.2e6;
const TOLD_US = 1e6;
const SILENT_MS = 8000;
const DRIFT = 0.1;
const JOINT_US = 300e3;
const FAR_US = 3e6;
const NEAR_US = 150e3;
const HASTE = 0.05;
const JUMP_US = 10e6;

// When each stretch of a list shows, and where in it; files that miss each other by little follow each other.
export function stretchesOf(segments, from) {
  const found = [];
  for (const { date, at, end: ends, part } of segments) {
    const begins = date - from, stops = begins + Math.round((ends - at) * 1e6), last = found.at(-1);
    if (last && last.part === part) { last.to_us = stops; continue; }
    if (last && begins - last.to_us < JOINT_US) last.to_us = begins;
    found.push({ from_us: begins, to_us: stops, position_us: Math.round(at * 1e6), part });
  }
  return found;
}

class LiveWall extends Wall {
  isFollowing = true;
  hasBegun = false;
  #edges = new Map();
  #longest = 1;

  close() { this.#edges.clear(); this.hasBegun = false; return super.close(); }
  release(set, how) { return end(`/api/v1/live-grants/${set.grant_id}`, how); }
  sourceOf(pane, onProblem) { return new Source(pane.video, pane.source.playlist_url, onProblem, true); }

  // Nothing is loaded before its list was read, which the first look at it does.
  start(pane) { if (pane.source.playlist_url) pane.player = this.sourceOf(pane, (problem) => this.on.problem(problem)); }

  // By the server's clock, before any list was seen to grow.
  begin(now) { this.#edges.set(null, { edge: now - TOLD_US - performance.now() * 1000, at: performance.now() }); }

  // What was told since: footage that can be gone to, and where live is.
  take(pane, segments) {
    pane.source.stretches = stretchesOf(segments, this.from);
    const now = performance.now(), told = this.from + pane.source.stretches.at(-1).to_us;
    this.to = Math.max(this.to, told);
    const known = this.#edges.get(pane);
    if (known?.told === told) return;
    // Seen the moment it was told is the truth; clocks that drift apart are followed.
    const before = known ? known.edge - (now - known.at) * DRIFT : this.#edges.get(null)?.edge ?? -Infinity;
    this.#edges.set(pane, { told, at: now, edge: Math.max(told - now * 1000, before) });
    this.#longest = Math.max(1, ...this.panes.flatMap((each) => each.player?.segments.slice(-6) || []).map((each) => each.end - each.at));
  }

  get live() {
    const now = performance.now(), all = [...this.#edges.values()];
    const fresh = all.filter((each) => now - each.at < SILENT_MS);
    const edge = fresh.length ? Math.min(...fresh.map((each) => each.edge)) : Math.max(...all.map((each) => each.edge));
    return all.length ? edge + now * 1000 - this.#longest * 1e6 - ROOM_US : null;
  }

  startOf(pane) {
    return (segments) => {
      this.take(pane, segments);
      if (!this.hasBegun) { this.at = Math.max(this.live, this.from + pane.source.stretches[0].from_us); this.hasBegun = true; }
      return Math.max(0, this.placeOf(pane).position ?? 0);
    };
  }

  follow(isFollowing) {
    this.isFollowing = isFollowing;
    if (isFollowing && this.live !== null) { this.seek(this.live); this.play(); }
  }

  pace(passed) {
    if (!this.isFollowing || this.live === null) return passed;
    const behind = this.live - this.at;
    if (Math.abs(behind) > FAR_US) return behind;
    return passed * (1 + (behind > NEAR_US ? HASTE : behind < -NEAR_US ? -HASTE : 0));
  }

  // More will come.
  atEnd() {}
}

const wall = new LiveWall(byId("live-panes"), { clock: onClock, lead: () => {}, end: () => {}, problem: (problem) => { byId("live-told").textContent = problem.message; } });
const masks = new LiveMaskTool(wall, () => live.session);
const live = { session: null, grant: null, ahead_us: 0, list: null };

// -- which run --------------------------------------------------------------------------------

export async function openRooms(me) {
  byId("rooms").hidden = !me?.acts.includes("read_sessions");
  clearInterval(live.list);
  if (byId("rooms").hidden) return;
  offerStart(me, list);
  live.list = setInterval(() => { if (state.token) { list().catch(() => {}); showPlans(); } }, LIST_MS);
  await list();
}

export async function closeRooms() {
  clearInterval(live.list);
  byId("room-list").replaceChildren();
  byId("plans").replaceChildren();
  byId("rooms").hidden = true;
  await closeLive();
}

const showPlans = () => { if (byId("plans-box").open) drawPlans().catch(() => {}); };
byId("plans-box").addEventListener("toggle", showPlans);

async function list() {
  const { token } = state;
  const page = await askJson("GET", "/api/v1/room-sessions?complete=false&limit=100");
  // Of one that is sealed somebody said why nothing is waited for.
  const sessions = page.items.filter((session) => !session.sealed_at);
  // While somebody writes down why, the list stays as it is.
  if (token !== state.token || byId("room-list").contains(document.activeElement)) return;
  byId("room-list").replaceChildren(...(sessions.length ? sessions.map(row) : [make("li", {}, word("noRooms"))]));
}

function row(session) {
  const until = session.planned_until && !session.ended_at ? ` · ${word("plannedUntil", { time: when(session.planned_until) })}` : "";
  const said = (session.ended_at ? word("endedAt", { time: when(session.ended_at) })
    : session.paused_since ? word("pausedSince", { time: when(session.paused_since) }) : word("since", { time: when(session.started_at) })) + until;
  const about = session.may_read ? session.facts?.case_no || word("unnamed") : "";
  const reason = make("input", { "aria-label": word("liveReason"), placeholder: word("liveReason"), maxlength: "500", required: "" });
  const go = make("button", { class: "small" }, word("watchLive"));
  const form = make("form", { class: "row", onsubmit: guarded(() => watch(session, reason.value)) }, reason, go);
  // Others than its own people watch what a live mask leaves; whether there is one, the answer says.
  const mayWatch = !session.ended_at && state.me?.acts.includes("watch_live");
  const mayRun = session.may_read && !session.ended_at && state.me?.acts.includes("run_sessions");
  return make("li", {}, make("b", {}, session.room_name), make("span", {}, about), make("span", { class: "wait" }, said),
    ...doubtsOf(session).map((each) => make("span", { class: "wait" }, each)), mayWatch ? form : null, mayRun ? hiding(session) : null, mayRun ? conducting(session, list) : null, session.may_read ? checklistOf(session) : null);
}

// One touch hides from now on, another ends it. Why is chosen beforehand.
function hiding(session) {
  const masks = `/api/v1/room-sessions/${session.id}/masks`;
  const why = make("select", { "aria-label": word("maskWhy") }, ...Object.entries(word("maskReasons")).map(([value, text]) => make("option", { value }, text)));
  const from = make("button", { type: "button", class: "small", onclick: guarded(async () => {
    await askJson("POST", masks, { reason: why.value, statement: why.selectedOptions[0].textContent });
    notice(word("maskedNow", { room: session.room_name }));
  }) }, word("maskFromNow"));
  const until = make("button", { type: "button", class: "small quiet", onclick: guarded(async () => {
    const lasting = (await askJson("GET", masks)).filter((mask) => !mask.to_at);
    for (const each of lasting) await askJson("POST", `${masks}/${each.id}/end`);
    notice(word(lasting.length ? "maskEnded" : "maskNone", { room: session.room_name }));
  }) }, word("maskUntilNow"));
  const alone = make("button", { type: "button", class: "small quiet", onclick: guarded(() => liftLiveMask(session, why.selectedOptions[0].textContent)) }, word("liveMaskLift"));
  return make("div", { class: "row" }, why, from, until, alone);
}

// What a person has to know of a session beside its footage: what no register has, and where files of it still are.
function doubtsOf({ unregistered, held_by: hosts, complete_at: isIn }) {
  const unknown = [...(unregistered?.case_no ? [word("facts").case_no] : []), ...(unregistered?.officers || []).map((number) => word("officerNo", { number }))];
  return [
    unknown.length && word("unregistered", { names: unknown.join(word("comma")) }),
    !isIn && hosts.length && word("heldBy", { hosts: hosts.join(word("comma")) }),
  ].filter(Boolean);
}

// -- watching ---------------------------------------------------------------------------------

export async function watch(session, reason) {
  await closeLive();
  const { token } = state;
  const grant = await askJson("POST", `/api/v1/room-sessions/${session.id}/live-grants`, { purpose: byId("purpose").value, reason });
  if (token !== state.token) return;
  Object.assign(live, { session, grant });
  document.activeElement?.blur();
  byId("live").hidden = false;
  byId("live-title").textContent = `${session.room_name} · ${session.facts?.case_no || word("unnamed")}`;
  wall.isFollowing = true;
  masks.show(grant);
  drawState();
  look(grant);
  start(grant).catch((problem) => problemOf(grant, problem));
}

async function start(grant) {
  const sources = grant.streams.filter((stream) => stream.playlist_url)
    .map((stream) => ({ lane: stream.name, playlist_url: stream.playlist_url, stretches: [], members: [] }));
  if (!sources.length) return;
  const from = microsOf(grant.started_at);
  await wall.show({ ...grant, from_at: grant.started_at, to_at: textOf(from + 1), sources }, from, new Map(sources.map(({ lane }) => [lane, lane])));
  wall.begin(microsOf(grant.now));
  wall.play();
  drawState();
  while (live.grant === grant) {
    await Promise.all(wall.panes.map((pane) => renew(pane).catch((problem) => problemOf(grant, problem))));
    await pause(REFRESH_MS);
  }
}

// A stream is shown once anything of it is whole: a session may have begun this moment.
async function renew(pane) {
  if (pane.player.segments.length) {
    await pane.player.refresh();
    if (wall.panes.includes(pane)) wall.take(pane, pane.player.segments);
    return;
  }
  try { await pane.player.open(wall.startOf(pane)); } catch (problem) { if (problem.code !== "live_waiting") throw problem; }
}

async function lookOnce(grant) {
  const asked = performance.now();
  const now = await askJson("GET", `/api/v1/live-grants/${grant.grant_id}`);
  if (live.grant !== grant) return;
  live.ahead_us = microsOf(now.now) - (asked + performance.now()) * 500;
  live.now = now;
  drawState();
}

async function look(grant) {
  while (live.grant === grant) {
    // A line that breaks is looked at again: what is said must not stand still while the footage goes on.
    await lookOnce(grant).catch((problem) => problemOf(grant, problem));
    await pause(LOOK_MS);
  }
}

function problemOf(grant, problem) {
  if (live.grant !== grant || !(problem instanceof Problem)) return;
  byId("live-told").textContent = problem.message;
  if (problem.code === "grant_ended" || problem.status === 403) closeLive({ isKept: true });
}

export async function closeLive({ isKept = false } = {}) {
  const { grant } = live;
  masks.show(null);
  Object.assign(live, { session: null, grant: null, now: null });
  if (!isKept) { byId("live").hidden = true; byId("live-told").textContent = ""; }
  if (wall.isOpen) await wall.close();
  else if (grant) await end(`/api/v1/live-grants/${grant.grant_id}`);
}

// -- what is said -----------------------------------------------------------------------------

function drawState() {
  const now = live.now || live.grant;
  if (!now) return;
  const named = (name) => now.streams.filter((stream) => stream.state === name);
  const names = (streams) => streams.map((stream) => stream.name).join(word("comma"));
  const away = named("away"), unplayable = named("not_playable"), unshown = named("not_shown");
  byId("live-told").textContent = [
    // While it lasts it is plain where its footage is.
    ...doubtsOf(now.ended_at ? now : { ...now, held_by: [] }),
    now.paused_since && word("livePaused"),
    now.ended_at && word("liveOver"),
    now.masked && word("liveMaskedView"),
    now.masked_since && !now.unmasked && word("liveMasked", { time: when(now.masked_since) }),
    away.length && word("liveAway", { names: names(away) }),
    ...Object.entries(word("encodeStates")).map(([encode, said]) => {
      const found = now.streams.filter((stream) => stream.encode === encode);
      return found.length && !now.ended_at && said.replace("{names}", names(found));
    }),
    unshown.length && word("liveNotShown", { names: names(unshown) }),
    unplayable.length && word("liveUnplayable", { names: names(unplayable), codecs: [...new Set(unplayable.flatMap((stream) => stream.codecs))].join(word("comma")) }),
  ].filter(Boolean).join(" · ");
  for (const pane of wall.panes) {
    const found = now.streams.find((stream) => stream.name === pane.source.lane);
    pane.button.textContent = `${pane.source.lane} · ${word("streamStates")[found?.state] || ""}`;
  }
}

function onClock(at, isPlaying) {
  byId("live-clock").textContent = wall.text;
  byId("live-play").textContent = word(isPlaying ? "pausePlay" : "play");
  byId("live-now").setAttribute("aria-pressed", String(wall.isFollowing));
  if (live.ahead_us) {
    const behind = (live.ahead_us + performance.now() * 1000 - at) / 1e6;
    byId("live-behind").textContent = wall.isFollowing ? word("behind", { seconds: behind.toFixed(1) }) : word("notLive");
  }
}

const ACTS = {
  play: () => { if (wall.isPlaying) { wall.isFollowing = false; wall.stop(); } else wall.play(); },
  back: () => { wall.isFollowing = false; wall.seek(wall.at - JUMP_US); wall.play(); },
  start: () => { wall.isFollowing = false; wall.seek(Math.min(...wall.panes.flatMap((pane) => pane.source.stretches.slice(0, 1)).map((each) => wall.from + each.from_us))); wall.play(); },
  now: () => wall.follow(true),
  close: () => closeLive(),
};

export function translateRooms() {
  byId("live-play").textContent = word(wall.isPlaying ? "pausePlay" : "play");
  wall.translate();
  drawState();
  if (!byId("rooms").hidden) { list().catch(() => {}); showPlans(); }
}

byId("live").addEventListener("click", (event) => {
  const act = event.target.closest("[data-live]")?.dataset.live;
  if (act && (wall.isOpen || act === "close")) guarded(() => ACTS[act]())();
});
window.addEventListener("pagehide", () => wall.abandon());
