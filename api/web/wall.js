// Several sources side by side under one clock: a grant set, a player each, and what keeps them in step.
//
// The clock is wall time in microseconds. A source that has footage stands at its place in its playlist; one that
// has none is held where its next footage begins. While any that should show is not ready the clock waits for it.

import { Problem, ask, askJson, localDay, localTime, make, microsOf, word } from "./common.js";
import { Source } from "./source.js";

const TICK_MS = 20;
const LONGEST_TICK_US = 200e3;
const NEAR_S = 0.02;
const FAR_S = 0.25;
const INSIDE_US = 500;
const USUAL_PICTURE_US = 40e3;

export class Wall {
  // on: { clock(at, isPlaying), lead(lane), captions(), end(), problem(problem) }
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.panes = [];
    this.set = null;
    this.isPlaying = false;
    this.readsCaptions = false;
    this.rate = 1;
    this.lead = null;
    this.at = 0;
    this.number = 0;
  }

  get isBroken() { return this.panes.some((pane) => pane.isBroken); }
  get isOpen() { return this.set !== null; }
  get hasCaptions() { return this.panes.some((pane) => pane.player?.captions); }
  get isOriginal() { return this.set?.variant === "original"; }
  has(lane) { return this.panes.some((pane) => pane.source.lane === lane); }
  reaches(at) { return this.isOpen && at >= this.from && at < this.to; }

  async open(caseId, wanted, at, names) {
    this.close();
    const number = this.number;
    const set = await askJson("POST", `/api/v1/cases/${caseId}/aligned`, wanted);
    if (number !== this.number) { await this.release(set); return false; }
    return this.show(set, at, names);
  }

  // The sources of a set, each with its playlist and what it shows when.
  async show(set, at, names) {
    const number = this.number;
    this.set = set;
    [this.from, this.to, this.at] = [microsOf(set.from_at), microsOf(set.to_at), at];
    this.panes = set.sources.map((source) => this.#pane(source, names.get(source.lane) || source.device_no || source.place || source.lane));
    this.root.replaceChildren(...this.panes.map((pane) => pane.element));
    this.root.className = `panes panes-${this.panes.length}${this.isOriginal ? " original" : ""}`;
    this.setLead((this.panes.find((pane) => pane.source.lane === this.lead) || this.panes.find((pane) => this.placeOf(pane).has) || this.panes[0]).source.lane);
    this.last = performance.now();
    this.timer = setInterval(() => this.#tick(), TICK_MS);
    await Promise.all(this.panes.map((pane) => this.start(pane)));
    return number === this.number;
  }

  async close() {
    clearInterval(this.timer);
    this.number += 1;
    this.isPlaying = false;
    for (const pane of this.panes) pane.player?.close();
    this.panes = [];
    this.root.replaceChildren();
    const set = this.set;
    this.set = null;
    if (set) await this.release(set);
  }

  // The addresses of a set that nobody looks at any more end at once.
  release(set, how) { return end(`/api/v1/grant-sets/${set.set_id}`, how); }

  sourceOf(pane, onProblem) { return new Source(pane.video, pane.source.variants_url, onProblem); }

  // How far the clock goes on while so much time passes.
  pace(passed) { return passed * this.rate; }

  atEnd() { this.stop(); this.on.end(); }

  // The page goes away: nothing can be waited for.
  abandon() { if (this.set) this.release(this.set, { keepalive: true }); }

  #pane(source, name) {
    const video = make("video", { playsinline: "", "aria-label": name });
    const told = make("p", { class: "pane-told", hidden: "" });
    const pane = { source, name, video, told, player: null, isBroken: false };
    pane.button = make("button", { type: "button", class: "quiet small", title: word("makeLead"), "aria-pressed": "false", onclick: () => this.setLead(source.lane) }, name);
    const ready = source.members.filter((member) => member.state === "ready").length;
    const note = ready < source.members.length ? make("small", {}, `${ready}/${source.members.length}`) : null;
    pane.element = make("figure", { class: "pane" }, make("div", { class: "pane-picture" }, video, told), make("figcaption", {}, pane.button, note, this.isOriginal ? make("b", { class: "chip bad", "data-text": "original" }, word("original")) : null));
    return pane;
  }

  async start(pane) {
    if (!pane.source.playlist_url) return;
    const problemOf = (problem) => { pane.isBroken = true; pane.why = () => (problem.code === "grant_ended" ? word("ended") : word("cannotPlay", { why: problem.message })); this.on.problem(problem); };
    pane.player = this.sourceOf(pane, problemOf);
    pane.player.readCaptions(this.readsCaptions);
    pane.video.addEventListener("captions", () => this.on.captions());
    // The pictures play on.
    pane.video.addEventListener("captions-missing", ({ detail }) => this.on.problem(detail));
    try { await pane.player.open(Math.max(0, this.placeOf(pane).position ?? 0)); } catch (problem) {
      if (this.panes.includes(pane)) problemOf(problem);
    }
  }

  readCaptions(isShown) {
    this.readsCaptions = isShown;
    for (const pane of this.panes) pane.player?.readCaptions(isShown);
  }

  setLead(lane) {
    this.lead = lane;
    for (const pane of this.panes) {
      const isLead = pane.source.lane === lane;
      pane.video.muted = !isLead;
      pane.button.setAttribute("aria-pressed", String(isLead));
      pane.element.classList.toggle("lead", isLead);
    }
    this.on.lead(lane);
  }

  translate() {
    for (const pane of this.panes) pane.button.title = word("makeLead");
  }

  get leading() { return this.panes.find((pane) => pane.source.lane === this.lead); }

  // Where a source stands at the clock: position in seconds, and whether it shows anything there.
  placeOf(pane, at = this.at) {
    const after = at - this.from;
    const found = pane.source.stretches.find((stretch) => after < stretch.to_us);
    if (!found) return { has: false, position: null, next: null };
    const has = after >= found.from_us;
    return { has, position: (found.position_us + (has ? after - found.from_us : 0)) / 1e6, next: has ? null : this.from + found.from_us, end: this.from + found.to_us };
  }

  play() { this.isPlaying = true; this.last = performance.now(); }

  stop() {
    this.isPlaying = false;
    this.#settle();
  }

  seek(at) {
    this.at = Math.min(Math.max(at, this.from), this.to - 1);
    this.#settle();
    this.on.clock(this.at, this.isPlaying);
  }

  // To the picture of the lead before or after the present one, whatever its rate.
  step(by) {
    this.isPlaying = false;
    const pane = this.leading, { has, position } = this.placeOf(pane);
    if (!has || !pane.player) { this.seek(by > 0 ? this.nextFootage() ?? this.at : this.at - USUAL_PICTURE_US); return; }
    const shown = pane.player.picturesNear(position);
    const present = shown.findLastIndex((each) => each <= position + 1e-4);
    const wanted = shown[present + by];
    if (present < 0 || wanted === undefined) this.seek(this.at + by * USUAL_PICTURE_US);
    else this.seek(Math.round(this.at + (wanted - position) * 1e6) + INSIDE_US);
  }

  nextFootage() {
    const starts = this.panes.flatMap((pane) => pane.source.stretches.map((stretch) => this.from + stretch.from_us));
    return starts.filter((start) => start > this.at + 1e3).sort((one, two) => one - two)[0];
  }

  // The recording of the lead that shows at the clock, and where in it: what a picture is asked by.
  presentOf(pieces) {
    const lane = this.lead;
    const members = new Map((this.leading?.source.members || []).map((member) => [member.item_id, member]));
    const piece = pieces.find((each) => each.lane === lane && each.from <= this.at && this.at < (each.to ?? each.from) && members.has(each.item_id));
    const start = piece && members.get(piece.item_id).starts_at;
    return start ? { piece, mediaUs: this.at - microsOf(start) } : null;
  }

  grantOf(itemId) {
    for (const pane of this.panes) {
      const member = pane.source.members.find((each) => each.item_id === itemId && each.state === "ready");
      if (member) return member;
    }
    return null;
  }

  #settle() {
    for (const pane of this.panes) {
      if (!pane.player || pane.isBroken) continue;
      pane.video.pause();
      pane.video.playbackRate = this.rate;
      const { position } = this.placeOf(pane);
      if (position !== null && Math.abs(pane.video.currentTime - position) > 1e-4) pane.video.currentTime = position;
    }
  }

  #isReady(pane, position) {
    return pane.isBroken || (pane.video.readyState >= 2 && !pane.video.seeking && (pane.player.holds(position) || position > pane.player.lengthS - 0.1));
  }

  #tick() {
    const now = performance.now(), passed = Math.min((now - this.last) * 1000, LONGEST_TICK_US);
    this.last = now;
    const places = this.panes.map((pane) => [pane, this.placeOf(pane)]);
    const isHeld = places.some(([pane, { has, position }]) => has && pane.player && !this.#isReady(pane, position));
    if (this.isPlaying && !isHeld) {
      this.at += this.pace(passed);
      if (this.at >= this.to) { this.at = this.to - 1; this.atEnd(); }
    }
    for (const [pane, spot] of places) this.#drive(pane, spot, this.isPlaying && !isHeld);
    this.on.clock(this.at, this.isPlaying);
  }

  #drive(pane, { has, position, next }, isRunning) {
    const { video } = pane;
    const told = pane.isBroken ? pane.why()
      : !pane.source.playlist_url ? word(this.isOriginal ? "notRendered" : "notMasked")
      : !has ? [word("noneNow"), next === null ? word("noneLater") : word("nextAt", { time: localTime(next) })].join("\n")
      : this.isPlaying && !isRunning && !this.#isReady(pane, position) ? word("waiting")
      : video.readyState >= 1 && !video.videoWidth ? word("soundOnly") : "";
    if (pane.told.textContent !== told) pane.told.textContent = told;
    pane.told.hidden = !told;
    pane.told.classList.toggle("over", has && !pane.isBroken);
    if (!pane.player || pane.isBroken) return;
    if (!has) {
      if (!video.paused) video.pause();
      if (position !== null && !video.seeking && Math.abs(video.currentTime - position) > FAR_S) video.currentTime = position;
      return;
    }
    if (!isRunning) { if (!video.paused) video.pause(); return; }
    if (video.paused) video.play().catch(() => {});
    const off = video.currentTime - position;
    video.playbackRate = this.rate * (off > NEAR_S ? 0.9 : off < -NEAR_S ? 1.1 : 1);
    if (Math.abs(off) > FAR_S && !video.seeking) video.currentTime = position;
  }

  get text() { return `${localDay(this.at)} ${localTime(this.at, 3)}`; }
}

// What has ended already is as good.
export async function end(address, how = {}) {
  try { await ask("DELETE", address, undefined, how); } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
  }
}
