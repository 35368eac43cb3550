// The review of a case: its timeline, its sources in step, and what of them is taken away.

import { ask, askJson, byId, guarded, lasting, localTime, make, microsOf, notice, reasonOf, state, textOf, variantAsked, word } from "./common.js";
import { spanName, take, translateTaken } from "./taking.js";
import { Timeline, listed } from "./timeline.js";
import { Wall } from "./wall.js";

const PAGE = 200;
const MOST_PIECES = 2000;
const MOST_REPORTS = 200;
const REPORTS_AT_ONCE = 3;
const MOST_LANES = 8;
const FIRST_LANES = 4;
const NEAR_US = 30 * 60e6;
const LONGEST_US = 24 * 3600e6;
const JUMP_US = 10e6;
const RATES = [0.25, 0.5, 1, 2, 4];

const review = { case: null, found: null, chosen: new Set(), marks: { from: null, to: null }, findings: [], reports: new Map(), posters: new Map(), sheets: new Map(), loading: null };
const timeline = new Timeline(byId("timeline"), { seek: heeding((at, lane) => seek(at, lane)), move, choose, isFull, hover: pictureAt });
const wall = new Wall(byId("panes"), { clock: onClock, lead: drawTake, captions: drawCaptions, end: onEnd, problem: (problem) => notice(problem.message) });

function heeding(action) {
  return (...facts) => guarded(() => action(...facts))();
}

// -- a case ---------------------------------------------------------------------------------

export async function openReview(found) {
  await closeReview();
  review.case = found;
  byId("review").hidden = false;
  document.body.classList.add("reviewing");
  draw();
  byId("review-state").textContent = word("loading");
  try { await load(); } catch (problem) { byId("review-state").textContent = problem.message; }
}

export async function closeReview() {
  review.loading = null;
  Object.assign(review, { case: null, found: null, chosen: new Set(), marks: { from: null, to: null }, findings: [] });
  for (const url of review.posters.values()) url.then((each) => each && URL.revokeObjectURL(each));
  review.posters.clear();
  review.reports.clear();
  review.sheets.clear();
  Object.assign(timeline, { zoom: 1, at: null, findings: new Map() });
  timeline.setMarks(null, null);
  byId("review").hidden = true;
  document.body.classList.remove("reviewing");
  byId("taken").replaceChildren();
  byId("taken-box").hidden = true;
  await closeWall();
}

// What was received meanwhile, unless somebody is watching.
export async function refreshReview() {
  if (review.case && !wall.isOpen) await load();
}

async function load() {
  const loading = (review.loading = {});
  const path = `/api/v1/cases/${review.case.id}/timeline?limit=${PAGE}`;
  let page = await askJson("GET", path);
  const found = { lanes: page.lanes, pieces: [...page.pieces], unplaced: [...page.unplaced], gaps: [...page.gaps], overlaps: [...page.overlaps] };
  while (page.next_cursor && found.pieces.length < MOST_PIECES) {
    page = await askJson("GET", `${path}&cursor=${encodeURIComponent(page.next_cursor)}`);
    for (const name of ["pieces", "unplaced", "gaps", "overlaps"]) found[name].push(...page[name]);
  }
  if (loading !== review.loading) return;
  review.found = read(found, page);
  if (!review.chosen.size) review.chosen = new Set([...found.lanes].sort((one, two) => two.piece_count - one.piece_count).slice(0, FIRST_LANES).map((lane) => lane.lane));
  draw();
  await loadReports(loading);
}

function read(found, page) {
  const names = new Map(found.lanes.map((lane) => [lane.lane, (lane.name = lane.device_no || lane.place || lane.lane)]));
  for (const each of [...found.pieces, ...found.gaps, ...found.overlaps]) {
    each.from = microsOf(each.starts_at);
    each.to = each.ends_at ? microsOf(each.ends_at) : null;
    each.laneName = each.lane === null ? "" : names.get(each.lane) || "";
  }
  for (const piece of [...found.pieces, ...found.unplaced]) piece.name = piece.av_record_no || piece.original_name;
  const ends = found.pieces.map((piece) => piece.to ?? piece.from);
  return { ...found, names, from: page.starts_at ? microsOf(page.starts_at) : null, to: ends.reduce((most, each) => Math.max(most, each), -Infinity), isCut: Boolean(page.next_cursor) };
}

function draw() {
  const { found } = review;
  const hasTimes = Boolean(found?.pieces.length);
  byId("review-state").textContent = found && !hasTimes ? word("noTimes") : found?.isCut ? word("onlyFirst", { count: found.pieces.length }) : "";
  byId("timeline").hidden = byId("take").hidden = byId("review-tools").hidden = byId("legend").hidden = byId("list-box").hidden = byId("keys-box").hidden = !hasTimes;
  byId("unplaced").textContent = found?.unplaced.length ? word("unplaced", { names: found.unplaced.map((piece) => piece.name).join(word("comma")) }) : "";
  if (!hasTimes) return;
  timeline.draw(found, review.chosen);
  drawLegend();
  drawList();
  drawTake();
}

function drawLegend() {
  const sample = (kind) => make("span", { class: `tl-bar ${kind}` });
  byId("legend").replaceChildren(...[["tl-piece", "legendPiece"], ["tl-gap", "legendGap"], ["tl-overlap", "legendOverlap"], ["tl-finding", "legendFinding"]].map(([kind, name]) => make("span", {}, sample(kind), word(name))));
}

function drawList() {
  const { count, rows } = listed(review.found, review.findings, (at) => seek(at));
  byId("list-title").textContent = word("listAll", { count });
  byId("list").replaceChildren(...(byId("list-box").open ? rows() : []));
}

// -- what breaks the continuity -------------------------------------------------------------

async function loadReports(loading) {
  const reporting = (review.reporting = {});
  const isOver = () => loading !== review.loading || reporting !== review.reporting;
  const waiting = review.found.pieces.filter((piece) => piece.media_kind !== "photo").slice(0, MOST_REPORTS);
  const findings = [];
  const one = async () => {
    for (let piece = waiting.shift(); piece; piece = waiting.shift()) {
      const spans = await reportOf(piece);
      if (isOver()) return;
      findings.push(...spans);
      timeline.setFindings(piece.binding_id, spans);
    }
  };
  await Promise.all(Array.from({ length: REPORTS_AT_ONCE }, one));
  if (isOver()) return;
  review.findings = findings;
  drawList();
}

// The findings of a piece, in wall time; none where no report is made yet.
async function reportOf(piece) {
  let report = review.reports.get(piece.item_id);
  try { report ??= await askJson("GET", `/api/v1/items/${piece.item_id}/continuity`); } catch (problem) {
    if (problem.status === 404) return [];
    throw problem;
  }
  review.reports.set(piece.item_id, report);
  const [first, last] = piece.span_us || [0, Infinity];
  return report.spans.filter((span) => span.from_us < last && span.to_us >= first).map((span) => {
    const from = piece.from + Math.max(span.from_us, first) - first, to = piece.from + Math.min(span.to_us, last) - first;
    const measured = word("measured", { value: Number(span.measured.toFixed(2)), unit: word("units")[span.unit] || span.unit, threshold: span.threshold });
    const reasons = span.reasons.map((reason) => word("reasonGiven", { text: reason.statement }));
    const name = span[state.language] || span.en;
    return { from, to, lane: piece.lane, laneName: piece.laneName, mediaUs: span.from_us, kind: span.kind, text: [`${name} ${lasting(span.to_us - span.from_us)}`, measured, ...reasons].join(word("comma")) };
  });
}

// -- the picture over the bar ---------------------------------------------------------------

// A thumbnail where a grant is open, else the masked poster: hovering asks for no grant.
function pictureAt(at, piece) {
  const box = make("div", { class: "tl-picture" });
  const member = wall.isOpen ? wall.grantOf(piece.item_id) : null;
  const shown = member ? thumbnailsOf(member.grant_id) : Promise.resolve(null);
  shown.then((cues) => {
    const start = member?.starts_at ? microsOf(member.starts_at) : piece.from;
    const seconds = (at - start) / 1e6;
    const cue = cues?.find((each) => each.from <= seconds && seconds < each.to);
    if (!cue) { posterOf(piece.item_id).then((url) => { if (url) box.append(make("img", { src: url, alt: word("poster") })); }); return; }
    const scale = 160 / cue.width;
    box.append(make("span", { class: "tl-sheet", role: "img", "aria-label": word("thumbnail") }));
    Object.assign(box.firstChild.style, { width: `${cue.width}px`, height: `${cue.height}px`, transform: `scale(${scale})`, backgroundImage: `url("${cue.sheet}")`, backgroundPosition: `-${cue.x}px -${cue.y}px` });
    box.style.height = `${cue.height * scale}px`;
  }).catch((problem) => notice(problem.message));
  return box;
}

function posterOf(itemId) {
  if (!review.posters.has(itemId)) {
    review.posters.set(itemId, ask("GET", `/api/v1/items/${itemId}/poster`).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob)).catch(() => null));
  }
  return review.posters.get(itemId);
}

function thumbnailsOf(grantId) {
  if (!review.sheets.has(grantId)) {
    review.sheets.set(grantId, askJson("GET", `/api/v1/grants/${grantId}`).then(async ({ thumbnails_url: url }) => (url ? readCues(await (await fetch(url)).text(), url) : null)));
  }
  return review.sheets.get(grantId);
}

// Source: W3C WebVTT section 4; Media Fragments URI section 4.2.2 (#xywh=).
function readCues(text, base) {
  const secondsOf = (written) => written.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return [...text.matchAll(/([\d:.]+) --> ([\d:.]+)[^\n]*\n([^\n#]+)#xywh=(\d+),(\d+),(\d+),(\d+)/g)].map(([, from, to, sheet, x, y, width, height]) => ({
    from: secondsOf(from), to: secondsOf(to), sheet: new URL(sheet, base).href, x: Number(x), y: Number(y), width: Number(width), height: Number(height) }));
}

// -- watching -------------------------------------------------------------------------------

function isFull() {
  if (review.chosen.size < MOST_LANES) return false;
  notice(word("tooManySources"));
  return true;
}

function choose(lane, isChosen) {
  if (isChosen) review.chosen.add(lane); else review.chosen.delete(lane);
  drawTake();
  if (wall.isOpen && review.chosen.size) guarded(() => watch(wall.at, wall.isPlaying))();
}

// The keyboard moves the moment; only with something open does that show anything.
function move(at) {
  if (wall.reaches(at)) wall.seek(at);
  else timeline.setClock(at, true);
}

async function seek(at, lane) {
  if (lane && !review.chosen.has(lane) && !isFull()) { review.chosen.add(lane); timeline.draw(review.found, review.chosen); drawTake(); }
  if (lane) wall.lead = lane;
  if (wall.reaches(at) && !wall.isBroken && review.asked === namesOf(review.chosen) && (!lane || wall.has(lane))) {
    if (lane) wall.setLead(lane);
    wall.seek(at);
    wall.play();
    return;
  }
  await watch(at, true);
}

const namesOf = (lanes) => [...lanes].sort().join("\n");

// Grants for whole recordings around the moment, no more: each is a leaf in custody.
function windowAround(at) {
  let [from, to] = [at - NEAR_US, at + NEAR_US];
  for (const piece of review.found.pieces) {
    const end = piece.to ?? piece.from;
    if (!review.chosen.has(piece.lane) || end <= at - NEAR_US || piece.from >= at + NEAR_US) continue;
    [from, to] = [Math.min(from, piece.from), Math.max(to, end)];
  }
  from = Math.max(from, review.found.from, at - LONGEST_US / 2);
  return [from, Math.max(Math.min(to, review.found.to, from + LONGEST_US), from + 1)];
}

async function watch(at, isPlaying) {
  if (!review.chosen.size) { notice(word("chooseSource")); return; }
  const moment = Math.min(Math.max(at, review.found.from), review.found.to - 1);
  const [from, to] = windowAround(moment);
  const lanes = [...review.chosen], asked = variantAsked();
  review.asked = namesOf(lanes);
  byId("wall").hidden = false;
  const isOpen = await wall.open(review.case.id, { ...asked, purpose: byId("purpose").value, from_at: textOf(from), to_at: textOf(to), lanes }, moment, review.found.names)
    .catch((problem) => { byId("wall").hidden = !wall.isOpen; throw problem; });
  if (!isOpen) return;
  drawLeftOut();
  drawCaptions();
  wall.seek(moment);
  if (isPlaying) wall.play();
  drawTake();
  if (!byId("review").contains(document.activeElement)) byId("review").focus({ preventScroll: true });
  byId("review").scrollIntoView({ block: "start", behavior: "smooth" });
}

// What is watched is of one variant: another is asked for anew.
export async function stopWatching() { if (wall.isOpen) await closeWall(); }

function drawLeftOut() {
  const left = wall.set?.left_out || [];
  byId("wall-told").textContent = left.length ? word("leftOut", { count: left.length, why: [...new Set(left.map((each) => reasonOf(each.why)))].join(word("comma")) }) : "";
}

async function closeWall() {
  byId("wall").hidden = true;
  byId("wall-told").textContent = "";
  review.sheets.clear();
  await wall.close();
}

function drawCaptions() {
  const button = byId("captions");
  button.hidden = !wall.hasCaptions;
  button.setAttribute("aria-pressed", String(wall.readsCaptions));
}

let lastShown = "";

function onClock(at, isPlaying) {
  if (wall.text === lastShown && isPlaying === (byId("play").dataset.playing === "yes")) return;
  lastShown = wall.text;
  byId("clock").textContent = wall.text;
  byId("play").textContent = word(isPlaying ? "pause" : "play");
  byId("play").dataset.playing = isPlaying ? "yes" : "no";
  timeline.setClock(at, isPlaying);
}

// What is reviewed goes on behind what was asked for.
function onEnd() {
  const next = footageAfter(wall.to);
  if (next !== undefined) guarded(() => watch(next, true))();
}

// Where the next footage of a chosen source begins, or goes on.
function footageAfter(at) {
  const starts = review.found.pieces.filter((piece) => review.chosen.has(piece.lane) && (piece.to ?? piece.from) > at).map((piece) => Math.max(piece.from, at));
  return starts.length ? Math.min(...starts) : undefined;
}

function jump(by) {
  const at = Math.min(Math.max(wall.at + by, review.found.from), review.found.to - 1);
  if (wall.reaches(at)) wall.seek(at);
  else guarded(() => watch(at, wall.isPlaying))();
}

const acts = {
  play: () => (wall.isPlaying ? wall.stop() : wall.play()),
  back: () => jump(-JUMP_US),
  forward: () => jump(JUMP_US),
  previous: () => wall.step(-1),
  next: () => wall.step(1),
  nextFootage: () => {
    const next = wall.nextFootage() ?? footageAfter(wall.to);
    if (next !== undefined) jump(next - wall.at);
  },
  savePicture: () => savePicture(),
  captions: () => { wall.readCaptions(!wall.readsCaptions); drawCaptions(); },
  markIn: () => mark("from"),
  markOut: () => mark("to"),
  clearMarks: () => { review.marks = { from: null, to: null }; timeline.setMarks(null, null); drawTake(); },
  closeWall: () => guarded(closeWall)(),
};
const KEYS = { k: "play", " ": "play", j: "back", l: "forward", ",": "previous", ".": "next", n: "nextFootage", s: "savePicture", i: "markIn", o: "markOut" };
const HELD = new Set(["back", "forward", "previous", "next"]);
const ALWAYS = new Set(["markIn", "markOut", "clearMarks"]);

function onKey(event) {
  const act = KEYS[event.key.toLowerCase()];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, summary")) return;
  if (event.key === " " && event.target.closest("button, a")) return;
  if (!wall.isOpen && !ALWAYS.has(act)) return;
  event.preventDefault();
  if (!event.repeat || HELD.has(act)) acts[act]();
}

// -- taking away ----------------------------------------------------------------------------

function mark(which) {
  const at = Math.round(wall.isOpen ? wall.at : timeline.at);
  review.marks[which] = at;
  const other = which === "from" ? "to" : "from";
  const { from, to } = review.marks;
  if (from !== null && to !== null && from >= to) review.marks[other] = null;
  timeline.setMarks(review.marks.from, review.marks.to);
  drawTake();
}

function drawTake() {
  const { from, to } = review.marks, fields = byId("take").elements;
  const isMarked = from !== null && to !== null;
  byId("marked").textContent = isMarked ? word("marked", { from: localTime(from, 3), to: localTime(to, 3), length: lasting(to - from) })
    : [from, to].some((each) => each !== null) ? `${localTime(from ?? to, 3)} … ${word("markFirst")}` : word("markFirst");
  byId("take-go").disabled = !isMarked;
  const mayUnmark = Boolean(state.me?.acts.includes("take_unmarked"));
  byId("unmarked-box").hidden = !mayUnmark;
  byId("reason-box").hidden = !mayUnmark || !fields.unmarked.checked;
  fields.reason.required = mayUnmark && fields.unmarked.checked;
  const isComposite = fields.kind.value.includes("_");
  byId("sound-box").hidden = !isComposite;
  const kept = fields.kind.value || "clip", sound = fields.sound.value;
  fields.kind.replaceChildren(...["clip", "set", "side_by_side", "picture_in_picture"].map((kind) => make("option", { value: kind }, word("kinds")[kind])));
  fields.kind.value = kept;
  fields.sound.replaceChildren(make("option", { value: "" }, word("soundFirst")), make("option", { value: "none" }, word("soundNone")),
    ...[...review.chosen].map((lane) => make("option", { value: lane }, review.found?.names.get(lane) || lane)));
  fields.sound.value = [...fields.sound.options].some((each) => each.value === sound) ? sound : "";
}

function common() {
  const fields = byId("take").elements;
  const isUnmarked = !byId("unmarked-box").hidden && fields.unmarked.checked;
  return { ...variantAsked(), case_id: review.case.id, purpose: byId("purpose").value, time_of_day: fields.time_of_day.checked, ...(isUnmarked && { marked: false, reason: fields.reason.value }) };
}

const leadLane = () => (review.chosen.has(wall.lead) ? wall.lead : [...review.chosen][0]);

// Whole milliseconds around a span of wall time, never outside what of the recording belongs to the case.
function mediaSpan(piece, from, to) {
  const [first, last] = piece.span_us || [0, Infinity];
  const [start, end] = [from, to].map((at) => at - piece.from + first);
  const from_ms = Math.floor(start / 1000), to_ms = Math.ceil(end / 1000);
  return { from_ms: from_ms * 1000 < first ? from_ms + 1 : from_ms, to_ms: to_ms * 1000 > last ? to_ms - 1 : to_ms };
}

const takeSpan = guarded(async () => {
  const { from, to } = review.marks, kind = byId("take").elements.kind.value;
  if (!review.chosen.size) throw new Error(word("chooseSource"));
  if (kind === "clip") {
    const lane = leadLane();
    const piece = review.found.pieces.find((each) => each.lane === lane && each.from <= from && to <= (each.to ?? each.from));
    if (!piece) throw new Error(word("across"));
    await take("clip", "/clips", { ...common(), item_id: piece.item_id, form: "file", ...mediaSpan(piece, from, to) }, () => `${piece.laneName} ${spanName(from, to)}`);
    return;
  }
  const lead = leadLane();
  const lanes = [lead, ...[...review.chosen].filter((lane) => lane !== lead)];
  const sound = byId("take").elements.sound.value;
  const layout = kind === "set" ? {} : { layout: kind, ...(sound && { sound }) };
  await take(kind, "/clip-sets", { ...common(), from_at: textOf(from), to_at: textOf(to), lanes, ...layout }, () => spanName(from, to));
});

const savePicture = guarded(async () => {
  wall.stop();
  const present = wall.presentOf(review.found.pieces);
  if (!present) throw new Error(word("noneNow"));
  const name = `${present.piece.laneName} ${wall.text}`;
  await take("picture", "/clips", { ...common(), item_id: present.piece.item_id, form: "picture", at_us: Math.max(0, Math.floor(present.mediaUs)) }, () => name);
});

// -- start ----------------------------------------------------------------------------------

export function translateReview() {
  const fields = byId("take").elements;
  byId("rate").replaceChildren(...RATES.map((rate) => make("option", { value: rate }, `${rate}×`)));
  byId("rate").value = String(wall.rate);
  for (const kind of Object.keys(acts)) {
    const button = byId("review").querySelector(`[data-act="${kind}"]`);
    if (button) button.textContent = word(kind === "play" && wall.isPlaying ? "pause" : kind);
  }
  translateTaken();
  wall.translate();
  drawLeftOut();
  if (!review.found) { fields.kind.replaceChildren(); return; }
  draw();
  const loading = review.loading;
  loadReports(loading).catch((problem) => notice(problem.message));
}

for (const button of byId("review").querySelectorAll("[data-act]")) button.addEventListener("click", () => acts[button.dataset.act]());
byId("rate").addEventListener("change", (event) => { wall.rate = Number(event.target.value); });
byId("review").addEventListener("keydown", onKey);
byId("list-box").addEventListener("toggle", () => { if (review.found) drawList(); });
byId("take").addEventListener("submit", takeSpan);
byId("take").addEventListener("change", drawTake);
for (const [id, act] of [["closer", "closer"], ["wider", "wider"], ["all", "all"]]) byId(id).addEventListener("click", () => timeline[act]());
window.addEventListener("pagehide", () => wall.abandon());
window.addEventListener("resize", () => { if (review.found?.pieces.length) timeline.setZoom(timeline.zoom); });
