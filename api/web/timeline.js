// A case over wall time: a row for each source, its footage, gaps, overlaps and what breaks its continuity.

import { clock, lasting, localDay, localTime, make, place, word, zoneOffset } from "./common.js";

const STEPS_S = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000];
const WIDEST_TICK = "2026-12-28 20:08:08";
const TICK_GAP_PX = 12;
const WIDEST_PX = 4e6;
const ZOOM = 2;

export class Timeline {
  // on: { seek(at, lane), choose(lane, isChosen), hover(at, piece, lane) => Element to show, isFull() }
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.zoom = 1;
    this.marks = { from: null, to: null };
    this.at = null;
    this.findings = new Map();
  }

  // found: { lanes, pieces, gaps, overlaps } with times in microseconds, and which lanes are chosen.
  draw(found, chosen) {
    this.found = found;
    const margin = Math.max((found.to - found.from) * 0.01, 500e3);
    [this.from, this.to] = [found.from - margin, found.to + margin];
    this.at ??= found.from;
    // What is drawn anew stays where it was looked at, and the keyboard with it.
    const scrolled = this.scroll && this.scroll.scrollLeft / this.body.offsetWidth;
    const isHeld = document.activeElement !== null && document.activeElement === this.axis;
    this.axis = make("div", {
      class: "tl-axis", role: "slider", tabindex: 0, "aria-label": word("moment"), "aria-valuemin": 0, "aria-valuemax": Math.round((found.to - found.from) / 1e6),
      onkeydown: (event) => this.#key(event),
    });
    this.tracks = new Map(found.lanes.map((lane) => [lane.lane, this.#track(lane)]));
    this.head = make("div", { class: "tl-head" });
    this.span = make("div", { class: "tl-span", hidden: "" });
    this.body = make("div", { class: "tl-body" }, this.axis, ...this.tracks.values(), this.span, this.head);
    this.scroll = make("div", { class: "tl-scroll" }, this.body);
    this.preview = make("div", { class: "tl-preview", hidden: "" });
    this.labels = make("div", { class: "tl-labels" }, make("div", { class: "tl-corner" }, word("source")), ...found.lanes.map((lane) => this.#label(lane, chosen.has(lane.lane))));
    this.root.replaceChildren(make("div", { class: "tl-frame" }, this.labels, this.scroll, this.preview));
    this.scroll.addEventListener("scroll", () => this.#ticks());
    this.body.addEventListener("pointermove", (event) => this.#hover(event));
    this.body.addEventListener("pointerleave", () => { this.preview.hidden = true; });
    this.body.addEventListener("click", (event) => this.on.seek(this.#timeAt(event.clientX), event.target.closest(".tl-track")?.dataset.lane));
    this.setZoom(this.zoom);
    if (scrolled) this.scroll.scrollLeft = scrolled * this.body.offsetWidth;
    if (isHeld) this.axis.focus({ preventScroll: true });
    for (const [piece, spans] of this.findings) this.setFindings(piece, spans);
  }

  #percent(at) { return (100 * (at - this.from)) / (this.to - this.from); }

  #timeAt(clientX) {
    const box = this.body.getBoundingClientRect();
    return Math.round(this.from + ((clientX - box.left) / box.width) * (this.to - this.from));
  }

  #bar(kind, from, to, more = {}) {
    return place(make("div", { class: `tl-bar ${kind}`, ...more }), this.#percent(from), Math.max(this.#percent(to) - this.#percent(from), 0));
  }

  #track(lane) {
    const own = (list) => list.filter((each) => each.lane === lane.lane);
    return make("div", { class: "tl-track", "data-lane": lane.lane },
      ...own(this.found.gaps).map((gap) => this.#bar(`tl-gap${gap.is_certain ? "" : " unsure"}`, gap.from, gap.to)),
      ...own(this.found.pieces).map((piece) => this.#bar(`tl-piece ${piece.media_kind}`, piece.from, piece.to ?? piece.from, { "data-binding": piece.binding_id })),
      ...own(this.found.overlaps).map((each) => this.#bar(`tl-overlap${each.is_certain ? "" : " unsure"}`, each.from, each.to)));
  }

  #label(lane, isChosen) {
    const box = make("input", { type: "checkbox", onchange: (event) => {
      if (event.target.checked && this.on.isFull()) { event.target.checked = false; return; }
      this.on.choose(lane.lane, event.target.checked);
    } });
    box.checked = isChosen;
    const facts = [word("recorded", { length: lasting(lane.covered_us) }), lane.gap_count && word("gapCount", { count: lane.gap_count }), lane.overlap_count && word("overlapCount", { count: lane.overlap_count })].filter(Boolean).join(word("comma"));
    return make("label", { class: "tl-label", title: `${lane.name}\n${facts}` }, box, make("span", {}, make("b", {}, lane.name), make("small", {}, facts)));
  }

  // What breaks the continuity of a piece, as ticks: [{ from, to, kind, text }].
  setFindings(bindingId, spans) {
    this.findings.set(bindingId, spans);
    const piece = this.found.pieces.find((each) => each.binding_id === bindingId);
    const track = piece && this.tracks.get(piece.lane);
    if (!track) return;
    track.querySelectorAll(`[data-of="${CSS.escape(bindingId)}"]`).forEach((each) => each.remove());
    track.append(...spans.map((span) => this.#bar(`tl-finding ${span.kind}`, span.from, span.to, { "data-of": bindingId })));
  }

  setClock(at, isFollowed = false) {
    this.at = at;
    if (!this.head) return;
    place(this.head, this.#percent(at));
    this.axis.setAttribute("aria-valuenow", Math.round((at - this.found.from) / 1e6));
    this.axis.setAttribute("aria-valuetext", `${localDay(at)} ${localTime(at)}`);
    if (!isFollowed) return;
    const x = (this.#percent(at) / 100) * this.body.offsetWidth, { scrollLeft, clientWidth } = this.scroll;
    if (x < scrollLeft || x > scrollLeft + clientWidth) this.scroll.scrollLeft = x - clientWidth / 4;
  }

  setMarks(from, to) {
    this.marks = { from, to };
    if (!this.span) return;
    this.span.hidden = from === null && to === null;
    const [start, end] = [from ?? to, to ?? from];
    place(this.span, this.#percent(start), this.#percent(end) - this.#percent(start));
  }

  // Around the moment, which stays where it is.
  setZoom(zoom) {
    const wide = this.scroll.clientWidth || 1;
    const before = (this.#percent(this.at) / 100) * this.body.offsetWidth - this.scroll.scrollLeft;
    this.zoom = Math.max(1, Math.min(zoom, WIDEST_PX / wide));
    // Fonts and their sizes are the reader's.
    const widest = make("span", { class: "tl-tick" }, WIDEST_TICK);
    this.axis.append(widest);
    this.tickPx = widest.offsetWidth + TICK_GAP_PX;
    this.body.style.width = `${this.zoom * 100}%`;
    const keeps = before >= 0 && before <= wide ? before : wide / 2;
    this.scroll.scrollLeft = (this.#percent(this.at) / 100) * this.body.offsetWidth - keeps;
    this.#ticks();
    this.setClock(this.at);
    this.setMarks(this.marks.from, this.marks.to);
  }

  closer() { this.setZoom(this.zoom * ZOOM); }
  wider() { this.setZoom(this.zoom / ZOOM); }
  all() { this.setZoom(1); }

  #ticks() {
    const width = this.body.offsetWidth || 1, perPx = (this.to - this.from) / width;
    const step = 1e6 * (STEPS_S.find((seconds) => (seconds * 1e6) / perPx >= this.tickPx) || STEPS_S.at(-1));
    const offset = zoneOffset(this.from);
    const first = this.from + this.scroll.scrollLeft * perPx - step, last = this.from + (this.scroll.scrollLeft + this.scroll.clientWidth) * perPx;
    const ticks = [];
    let day = null;
    for (let at = Math.ceil((first + offset) / step) * step - offset; at <= last; at += step) {
      if (at < this.from) continue;
      const today = localDay(at);
      const text = today === day ? localTime(at).slice(0, step < 60e6 ? 8 : 5) : `${today} ${localTime(at).slice(0, step < 60e6 ? 8 : 5)}`;
      ticks.push(place(make("span", { class: "tl-tick" }, text), this.#percent(at)));
      if (this.#percent(at) / 100 * width >= this.scroll.scrollLeft) day = today;
    }
    const all = this.found.gaps.filter((gap) => gap.lane === null).map((gap) => this.#bar("tl-gap over-all", gap.from, gap.to));
    this.axis.replaceChildren(...all, ...ticks);
  }

  #hover(event) {
    if (event.pointerType === "touch") return;
    const at = this.#timeAt(event.clientX), lane = event.target.closest(".tl-track")?.dataset.lane;
    const piece = this.found.pieces.find((each) => each.lane === lane && each.from <= at && at < (each.to ?? each.from));
    const near = ((this.to - this.from) / this.body.offsetWidth) * 3;
    const holds = (each) => each.from - near <= at && at <= each.to + near;
    const told = [
      ...this.found.gaps.filter((gap) => gap.lane === (lane ?? null) && gap.from <= at && at < gap.to).map((gap) => word(gap.lane === null ? "gapAll" : "gap", { length: lasting(gap.to - gap.from) }) + (gap.is_certain ? "" : word("uncertain"))),
      ...this.found.overlaps.filter((each) => each.lane === lane && holds(each)).map((each) => word("overlap", { length: lasting(each.to - each.from) })),
      ...(piece ? (this.findings.get(piece.binding_id) || []).filter(holds).map((each) => `⚠ ${each.text}`) : []),
    ];
    this.preview.replaceChildren(
      ...(piece ? [this.on.hover(at, piece)] : []),
      make("p", {}, make("b", {}, localTime(at, 1)), piece ? ` ${piece.name}` : ""),
      ...told.slice(0, 4).map((text) => make("p", {}, text)));
    this.preview.hidden = false;
    const frame = this.root.getBoundingClientRect(), half = this.preview.offsetWidth / 2;
    this.preview.style.left = `${Math.min(Math.max(event.clientX - frame.left, half), frame.width - half)}px`;
  }

  #key(event) {
    const page = (this.to - this.from) / this.zoom;
    const moves = { ArrowLeft: -page / 100, ArrowRight: page / 100, PageUp: -page / 5, PageDown: page / 5 };
    const { from, to } = this.found;
    if (event.key in moves) this.on.move(Math.min(Math.max(this.at + moves[event.key], from), to));
    else if (event.key === "Home") this.on.move(from);
    else if (event.key === "End") this.on.move(to);
    else if (event.key === "Enter") this.on.seek(this.at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// The same as a list, which is read line by line and followed by keyboard.
export function listed(found, findings, onSeek) {
  const rows = [
    ...found.pieces.map((each) => ({ at: each.from, lane: each.laneName, text: `${each.name} · ${each.to === null ? "?" : lasting(each.to - each.from)}`, kind: "legendPiece" })),
    ...found.gaps.map((each) => ({ at: each.from, lane: each.laneName, text: word(each.lane === null ? "gapAll" : "gap", { length: lasting(each.to - each.from) }) + (each.is_certain ? "" : word("uncertain")), kind: "legendGap" })),
    ...found.overlaps.map((each) => ({ at: each.from, lane: each.laneName, text: word("overlap", { length: lasting(each.to - each.from) }) + (each.is_certain ? "" : word("uncertain")), kind: "legendOverlap" })),
    ...findings.map((each) => ({ at: each.from, lane: each.laneName, text: `${each.text} · ${clock(each.mediaUs)}`, kind: "legendFinding" })),
  ].sort((one, two) => one.at - two.at);
  return { count: rows.length, rows: () => rows.map((row) => make("tr", {},
    make("td", {}, make("button", { type: "button", class: "quiet small", onclick: () => onSeek(row.at) }, `${localDay(row.at)} ${localTime(row.at, 1)}`)),
    make("td", {}, row.lane), make("td", {}, word(row.kind)), make("td", {}, row.text))) };
}

