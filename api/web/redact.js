// The redaction desk of one recording: what is hidden over the original, edited by a person, saved as one version.
//
// Edits gather here and go out together, on the version they were made on. Who comes second is told, loads what the other
// made, and finds the edits still there. Nothing is decided here: right, what is revealed and who must agree is the server's.

import { Problem, ask, askJson, byId, make, state, when, word } from "./common.js";
import { HIDING, addEdit, boxAt, covers, isNew, keyAt, listed, microsOfPts, ptsOfMicros, withEdits } from "./masks.js";
import { Source } from "./source.js";
import { Stage } from "./stage.js";

const PAGE = 50;
const POLL_MS = 4000;
const MOST_EDITS = 1000;
const PREVIEW_US = 3_000_000;
const CLASSES = ["manual", "face", "plate", "text", "person", "screen", "document"];
const REASONS = ["privacy", "minor", "state_secret", "business_secret", "officer_safety", "other"];
const SHAPES = ["rectangle", "ellipse", "all_but"];
const SPANS = ["frames", "silence", "tone", "voice"];
const FINDINGS = 20;

const w = (name, facts) => word(`redact.${name}`, facts);
let desk = null;
// What was not saved when the desk was closed without asking: a session that ended, say. Its author finds it again.
let unsaved = null;

// A moment of media time: 0:12.480, 1:02:03.000.
function at(micros) {
  const ms = Math.max(0, Math.round(micros / 1000)), two = (value) => String(value).padStart(2, "0");
  const [hours, minutes, seconds] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, Math.floor(ms / 1000) % 60];
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds)}.${String(ms % 1000).padStart(3, "0")}`;
}

function tell(text, isBad = true) {
  byId("redact-told").textContent = text || "";
  byId("redact-told").classList.toggle("bad", isBad);
}

function heeding(action) {
  return async (event) => {
    event?.preventDefault?.();
    const here = desk;
    tell("");
    try { await action(event); } catch (problem) { if (desk === here) fail(problem); }
  };
}

// A grant that has ended is asked for anew, over the edits that there are.
function fail(problem) {
  tell(problem.message);
  if (problem.code === "grant_ended") byId("redact-door").hidden = false;
}

const who = (by, origin) => (origin === "model" || by === "worker" || by === "model" ? w("model") : by === "me" || by.endsWith(state.me.account_id) ? w("me") : w("colleague", { id: by.replace("account:", "").slice(0, 8) }));
const reasonWord = (reason) => word("maskReasons")[reason] || w("reasons")[reason] || reason;

// -- opening and closing --------------------------------------------------------------------

export const mayRedact = () => Boolean(state.me?.acts.includes("amend_redaction"));
export const isRedacting = () => byId("redact").open;

// onClosed: what becomes of the recording may have changed meanwhile.
export function openRedaction(item, onClosed) {
  desk = { item, onClosed, edits: [], number: 0, page: 0, selected: null, marks: { from: null, to: null }, plans: [] };
  byId("redact-title").textContent = `${word("redact.title")} · ${item.av_record_no || item.original_name}`;
  byId("redact-door").hidden = false;
  byId("redact-work").hidden = true;
  for (const form of document.querySelectorAll("#redact form")) form.reset();
  byId("redact-door").elements.reason.value = byId("variant").elements.reason.value;
  byId("redact-purpose").textContent = `${word("purpose")}: ${byId("purpose").selectedOptions[0].textContent}`;
  if (unsaved?.key === keyOf(item)) Object.assign(desk, unsaved.kept);
  translateDesk();
  tell("");
  byId("redact").showModal();
  byId("redact-door").elements.reason.focus();
}

const keyOf = (item) => `${state.me.account_id} ${item.id}`;

// Pressed twice, it asks once: each grant is a leaf in custody.
const begin = heeding(async (event) => {
  const button = event.target.querySelector("button");
  button.disabled = true;
  try { await enter(event.target.elements.reason.value.trim()); } finally { button.disabled = false; }
});

async function enter(reason) {
  const here = desk, { item } = here;
  if (!reason) throw new Error(word("problems").reason_missing);
  // Of a case by spans alone it is asked without: the right to all of it may rest on something else.
  const scope = item.binding.span_us ? {} : { case_id: item.binding.case_id };
  const grant = await askJson("POST", `/api/v1/items/${item.id}/grants`, { variant: "original", purpose: byId("purpose").value, reason, ...scope });
  const refusal = grant.span_us ? w("wholeNeeded") : grant.state === "pending" ? word("notRendered") : "";
  if (desk !== here || refusal) { await release(grant); throw new Error(refusal); }
  const { stage: before, grant: ended } = here, stoodAt = before?.micros;
  if (ended) await release(ended);
  Object.assign(here, { grant, reason });
  await load();
  if (desk !== here) return;
  byId("redact-door").hidden = true;
  byId("redact-work").hidden = false;
  before?.close();
  here.stage = new Stage(byId("redact-stage"), { moment: drawMoment, select, drawn: addBox, moved: moveBox, problem: fail });
  await here.stage.open(grant, here.draft, item.media_kind === "photo");
  if (desk !== here) return;
  here.timer ??= setInterval(() => watchStanding(here), POLL_MS);
  if (stoodAt) here.stage.seek(stoodAt);
  draw();
  byId("redact-stage").querySelector("canvas").focus();
}

// The newest version, under the edits that were made on another.
async function load() {
  const here = desk, path = `/api/v1/items/${here.item.id}`;
  const [plans, item] = await Promise.all([askJson("GET", `${path}/redaction/plans`), askJson("GET", path)]);
  if (!plans.length) throw new Error(w("noPlan"));
  const { plan, number } = await askJson("GET", `${path}/redaction/plans/${plans.at(-1).number}`);
  if (desk !== here) return;
  Object.assign(here, { plans, base: number, plan, detail: item });
  for (const id of ["redact-new", "redact-picture", "redact-clip"]) byId(id).hidden = !plan.picture;
  redo();
}

async function release(grant, how) {
  try { await ask("DELETE", `/api/v1/grants/${grant.grant_id}`, undefined, how); } catch (problem) { if (!(problem instanceof Problem)) throw problem; }
}

// What is not saved is asked about, once; the addresses of the original end with the desk.
export async function closeRedaction(isAsked = true) {
  if (!desk) return;
  if (isAsked && desk.edits.length && !window.confirm(w("leaveAsk", { count: desk.edits.length }))) return;
  const { grant, awaiting, stage, timer, edits, number, item, onClosed } = desk;
  unsaved = !isAsked && edits.length ? { key: keyOf(item), kept: { edits, number } } : null;
  clearInterval(timer);
  stage?.close();
  closeSide();
  desk = null;
  if (byId("redact").open) byId("redact").close();
  await Promise.all([grant, awaiting].filter(Boolean).map((each) => release(each)));
  if (state.token) await onClosed();
}

// -- edits ----------------------------------------------------------------------------------

function redo() {
  const { draft, failed } = withEdits(desk.plan, desk.edits);
  Object.assign(desk, { draft, failed, entries: listed(draft) });
  desk.doubtful = new Set(desk.entries.filter((entry) => entry.isDoubtful && entry.id).map((entry) => entry.id));
  const known = desk.entries.some((entry) => entry.id === desk.selected);
  if (!known) desk.selected = null;
}

function edit(...changes) {
  if (desk.isSaving) { tell(w("saving")); return false; }
  let { edits, number } = desk;
  for (const change of changes) {
    const made = addEdit(edits, (number += 1), change, desk.plan.picture);
    if (!made || withEdits(desk.plan, made).failed.has(number)) { tell(w("notNow")); return false; }
    edits = made;
  }
  if (edits.length > MOST_EDITS) { tell(w("tooMany", { most: MOST_EDITS })); return false; }
  Object.assign(desk, { edits, number });
  redo();
  draw();
  return true;
}

const given = (fields) => {
  const reason = fields.reason.value, text = fields.text.value.trim();
  if (reason === "other" && !text) { fields.text.focus(); throw new Error(w("otherNeedsText")); }
  return { reason, ...(text && { text }) };
};

function addBox(box) {
  try {
    const fields = byId("redact-new").elements, { picture } = desk.plan, { pts } = desk.stage;
    const seconds = Number(fields.seconds.value), end = seconds > 0 ? Math.min(picture.last_pts, ptsOfMicros(picture, desk.stage.micros + seconds * 1e6)) : picture.last_pts;
    const keys = [[pts, ...box, 0], ...(end > pts ? [[end, ...box, 0]] : [])];
    desk.stage.beginDrawing(false);
    tell("");
    if (edit({ op: "add_box", shape: fields.shape.value, class: fields.class.value, keys, ...given(fields) })) select(`new-${desk.number}`);
  } catch (problem) { tell(problem.message); }
}

function moveBox(id, box) {
  const track = trackOf(id);
  if (track) edit({ op: "set_key", track: id, key: keyAt(track, desk.stage.pts, box) });
}

const trackOf = (id) => desk.draft.tracks.find((track) => track.id === id);
const entryOf = (id) => desk.entries.find((entry) => entry.id === id);

// What is done to the mask that is chosen.
const acts = {
  accept: (entry) => edit({ op: "accept_box", track: entry.id }),
  refuse: (entry) => { const text = said(); edit(...(isNew(entry.id) ? [] : [{ op: "set_reason", track: entry.id, reason: entry.reason, text }]), { op: "delete_box", track: entry.id }); },
  keepVisible: (entry) => edit({ op: "keep_visible", track: entry.id, text: said() }),
  delete: (entry) => edit(entry.kind === "track" ? { op: "delete_box", track: entry.id } : { op: entry.kind === "frames" ? "unmask_frames" : "unmute", span: entry.id }),
  extend: (entry) => edit({ op: "extend_track", track: entry.id }),
  split: (entry) => edit({ op: "split_track", track: entry.id, pts: desk.stage.pts }),
  // On to this moment with the nearest box, or, of what is new, until this moment.
  toHere: (entry) => {
    const track = trackOf(entry.id), { pts } = desk.stage, isEarlier = pts < track.keys[0][0];
    if (covers(track, pts)) {
      const box = boxAt(track, pts);
      if (box) edit({ op: "move_box", track: entry.id, keys: [...track.keys.filter((key) => key[0] < pts), keyAt(track, pts, box)] });
    } else edit({ op: "set_key", track: entry.id, key: [pts, ...(isEarlier ? track.keys[0] : track.keys.at(-1)).slice(1)] });
  },
  setBox: (entry) => {
    const fields = byId("redact-chosen").elements, box = ["x0", "y0", "x1", "y1"].map((name) => Math.round(Number(fields[name].value)));
    if (!(box[0] < box[2] && box[1] < box[3])) throw new Error(w("badBox"));
    moveBox(entry.id, box);
  },
};
const ON_TRACK = ["accept", "refuse", "keepVisible", "delete", "extend", "toHere", "split"];

function said() {
  const field = byId("redact-chosen").elements.text, text = field.value.trim();
  if (!text) { field.focus(); throw new Error(word("problems").reason_missing); }
  return text;
}

function act(name) {
  const entry = desk?.selected && entryOf(desk.selected);
  if (!entry) return;
  tell("");
  try { acts[name](entry); } catch (problem) { tell(problem.message); }
}

function mark(which) {
  desk.marks[which] = desk.stage.pts;
  draw();
}

const addSpan = heeding(() => {
  const fields = byId("redact-span").elements, { from, to } = desk.marks, { picture } = desk.plan;
  if (from === null || to === null || to < from) throw new Error(w("markFirst"));
  if (fields.kind.value === "frames" && !picture) throw new Error(word("soundOnly"));
  if (fields.kind.value === "frames") edit({ op: "mask_frames", from_pts: from, to_pts: to, ...given(fields) });
  else edit({ op: "mute", from_us: microsOfPts(picture, from), to_us: Math.max(microsOfPts(picture, to), microsOfPts(picture, from) + 1), stream: null, kind: fields.kind.value, ...given(fields) });
  desk.marks = { from: null, to: null };
  draw();
});

const save = heeding(async () => {
  const here = desk, field = byId("redact-save").elements.note, note = field.value.trim();
  if (!here.edits.length) throw new Error(w("nothing"));
  if (here.failed.size) throw new Error(w("failedEdits", { count: here.failed.size }));
  await amend(here, "", { note, changes: here.edits.map(({ change }) => change) });
  if (desk !== here) return;
  here.edits = [];
  field.value = "";
  await load();
  draw();
  tell(w("saved", { number: here.base }), false);
});

// Somebody else was first: nothing is lost, and what to do is said with a button that does it.
async function amend(here, rest, body) {
  if (here.isSaving) throw new Error(w("saving"));
  // What is edited meanwhile would be taken for saved.
  here.isSaving = byId("redact-go").disabled = true;
  try { return await askJson("POST", `/api/v1/items/${here.item.id}/redaction/plans${rest}`, { base_number: here.base, ...body }); } catch (problem) {
    if (problem.code !== "plan_not_newest") throw problem;
    byId("redact-reload").hidden = false;
    throw new Error(w("conflict", { base: here.base, count: here.edits.length }));
  } finally { here.isSaving = byId("redact-go").disabled = false; }
}

const reload = heeding(async () => {
  await load();
  byId("redact-reload").hidden = true;
  draw();
  tell(desk.failed.size ? w("failedEdits", { count: desk.failed.size }) : w("reloaded", { number: desk.base, count: desk.edits.length }), desk.failed.size > 0);
});

const restore = (number) => heeding(async () => {
  const field = byId("redact-save").elements.note, note = field.value.trim();
  if (desk.edits.length) throw new Error(w("saveFirst"));
  if (!note) { field.focus(); throw new Error(w("noteFirst")); }
  await amend(desk, `/${number}/restore`, { note });
  field.value = "";
  await load();
  draw();
  tell(w("saved", { number: desk.base }), false);
});

// -- beside the original --------------------------------------------------------------------

function closeSide() {
  desk?.side?.close?.();
  if (desk?.sideUrl) URL.revokeObjectURL(desk.sideUrl);
  if (desk) Object.assign(desk, { side: null, sideUrl: null });
  byId("redact-side").replaceChildren();
}

// The version that is saved, drawn by the server as it will be rendered.
const preview = (lengthUs) => heeding(async () => {
  const here = desk;
  byId("redact-side").replaceChildren(make("p", {}, word("loading")));
  try {
    const answer = await ask("POST", `/api/v1/items/${here.item.id}/redaction/plans/${here.base}/preview`, { grant_id: here.grant.grant_id, at_us: here.stage.micros, ...(lengthUs && { length_us: lengthUs }) });
    const blob = await answer.blob();
    if (desk !== here) return;
    closeSide();
    const src = (here.sideUrl = URL.createObjectURL(blob)), alt = w("previewOf", { number: here.base, at: at(here.stage.micros) });
    byId("redact-side").append(lengthUs ? make("video", { src, controls: "", autoplay: "", loop: "", playsinline: "", "aria-label": alt }) : make("img", { src, alt }), make("p", {}, alt, here.edits.length ? ` ${w("withoutEdits")}` : ""));
  } catch (problem) { closeSide(); throw problem; }
});

// What waits for approval, played to whoever may give it: with purpose and reason, as the original.
const watchAwaiting = heeding(async () => {
  const here = desk, { item } = here, newest = here.plans.at(-1).number;
  if (here.awaiting && here.watched !== newest) { await release(here.awaiting); here.awaiting = null; }
  here.watched = newest;
  here.awaiting ??= await askJson("POST", `/api/v1/items/${item.id}/grants`, { variant: "awaiting", purpose: byId("purpose").value, reason: here.reason });
  if (desk !== here) { await release(here.awaiting); return; }
  if (here.awaiting.state === "pending") { await release(here.awaiting); here.awaiting = null; throw new Error(w("notMadeYet")); }
  closeSide();
  const isPhoto = !here.awaiting.playlist_url;
  const view = isPhoto ? make("img", { src: here.awaiting.file_url, alt: w("awaitingShown") }) : make("video", { controls: "", playsinline: "", "aria-label": w("awaitingShown") });
  byId("redact-side").append(view, make("p", {}, w("awaitingShown")));
  if (isPhoto) return;
  here.side = new Source(view, here.awaiting.playlist_url, (problem) => tell(problem.message));
  await here.side.open();
});

const approve = heeding(async () => {
  // The version that was watched; of another the server says that there is a newer one.
  const here = desk, newest = here.awaiting ? here.watched : here.plans.at(-1).number, note = byId("redact-save").elements.note.value.trim();
  await askJson("POST", `/api/v1/items/${here.item.id}/redaction/approve`, { number: newest, ...(note && { note }) });
  if (desk !== here) return;
  await refreshStanding(here);
  closeSide();
  here.awaiting = null;
  tell(w("approved", { number: newest }), false);
});

async function refreshStanding(here) {
  const path = `/api/v1/items/${here.item.id}`;
  const [plans, detail] = await Promise.all([askJson("GET", `${path}/redaction/plans`), askJson("GET", path)]);
  if (desk !== here) return;
  Object.assign(here, { plans, detail });
  drawStanding();
  drawHistory();
}

async function watchStanding(here) {
  if (document.hidden || here.isAsking) return;
  here.isAsking = true;
  try { await refreshStanding(here); } catch (problem) { if (desk === here) tell(problem.message); } finally { here.isAsking = false; }
}

// -- drawing --------------------------------------------------------------------------------

function select(id, isJumping = false) {
  // What was said of one mask is not said of another.
  if (id !== desk.selected) byId("redact-chosen").elements.text.value = "";
  desk.selected = id;
  const index = desk.entries.findIndex((entry) => entry.id === id);
  if (id && index >= 0) desk.page = Math.floor(index / PAGE);
  if (isJumping && id && !desk.stage.isThere(id)) desk.stage.seek(entryOf(id).from);
  draw();
}

function draw() {
  desk.stage?.show(desk.draft, desk.doubtful, desk.selected);
  drawList();
  drawChosen();
  drawEdits();
  drawStanding();
  drawHistory();
  drawMoment();
}

function drawMoment() {
  const { stage } = desk || {};
  if (!stage?.view) return;
  const length = desk.item.duration_us || 0;
  byId("redact-clock").textContent = `${at(stage.micros)} / ${at(length)}`;
  byId("redact-play").textContent = word(stage.isPlaying ? "pause" : "play");
  const bar = byId("redact-seek");
  bar.max = Math.max(1, length);
  if (document.activeElement !== bar || stage.isPlaying) bar.value = stage.micros;
  bar.setAttribute("aria-valuetext", at(stage.micros));
  drawEdges();
}

function drawEdges() {
  const form = byId("redact-chosen"), track = desk.selected && trackOf(desk.selected), box = track && boxAt(track, desk.stage.pts);
  byId("redact-edges").hidden = !box;
  if (!box || form.contains(document.activeElement) && document.activeElement.type === "number") return;
  ["x0", "y0", "x1", "y1"].forEach((name, number) => { form.elements[name].value = Math.round(box[number]); });
}

const whatOf = (entry) => w("whats")[entry.what] || entry.what;
const stateOf = (entry) => w("states")[entry.isDoubtful ? "doubtful" : entry.state];

function row(entry) {
  const facts = [`${at(entry.from)} – ${at(entry.to)}`, entry.by && who(entry.by, entry.origin), entry.reason && reasonWord(entry.reason), entry.text, ...entry.why.map((why) => w("doubts")[why] || why)];
  const press = () => { if (entry.id) select(entry.id, true); else desk.stage.seek(entry.from); };
  return make("li", {}, make("button", { type: "button", class: `mask-row ${entry.isDoubtful ? "doubtful" : entry.state}`, "data-id": entry.id, "aria-current": entry.id && entry.id === desk.selected ? "true" : null, onclick: press },
    make("b", {}, whatOf(entry)), make("span", { class: "chip" }, stateOf(entry)), make("small", {}, facts.filter(Boolean).join(" · "))));
}

// Of thousands only a page is built.
function drawList() {
  const { entries } = desk, pages = Math.max(1, Math.ceil(entries.length / PAGE));
  desk.page = Math.min(desk.page, pages - 1);
  const first = desk.page * PAGE, held = document.activeElement?.dataset?.id;
  byId("redact-list").replaceChildren(...entries.slice(first, first + PAGE).map(row));
  if (held) byId("redact-list").querySelector(`[data-id="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  byId("redact-list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  byId("redact-count").textContent = entries.length ? w("count", { all: entries.length, doubtful: entries.filter((entry) => entry.isDoubtful).length }) : w("none");
  byId("redact-pager").hidden = pages === 1;
  byId("redact-page").textContent = `${first + 1}–${Math.min(first + PAGE, entries.length)}`;
  byId("redact-before").disabled = !desk.page;
  byId("redact-after").disabled = desk.page === pages - 1;
}

function drawChosen() {
  const entry = desk.selected && entryOf(desk.selected), form = byId("redact-chosen"), fields = form.elements;
  form.hidden = !entry;
  if (!entry) return;
  const track = entry.kind === "track" && trackOf(entry.id), isOwn = isNew(entry.id);
  byId("redact-chosen-title").textContent = `${whatOf(entry)} · ${stateOf(entry)} · ${at(entry.from)} – ${at(entry.to)}`;
  for (const name of ON_TRACK) {
    const button = form.querySelector(`[data-redact="${name}"]`);
    button.hidden = name === "delete" ? !HIDING.has(entry.state) : !track || (isOwn && ["accept", "refuse", "keepVisible", "split"].includes(name))
      || (name === "accept" && entry.state === "accepted") || (name === "refuse" && !HIDING.has(entry.state)) || (name === "keepVisible" && entry.state === "kept_visible") || (name === "extend" && !HIDING.has(entry.state));
  }
  for (const name of ["class", "reason", "text"]) fields[name].closest("label").hidden = !track;
  if (track) { fields.class.value = track.class; fields.reason.value = REASONS.includes(track.reason) ? track.reason : "privacy"; }
}

function drawEdits() {
  const { edits, failed } = desk, spoken = (change) => { const entry = entryOf(change.track || change.span); return entry ? `${whatOf(entry)} ${at(entry.from)}` : change.keys ? at(microsOfPts(desk.plan.picture, change.keys[0][0])) : ""; };
  byId("redact-edits").replaceChildren(...edits.map(({ number, change }) => make("li", { class: failed.has(number) ? "bad" : "" },
    make("span", {}, [w("ops")[change.op], spoken(change), failed.has(number) && w("cannot")].filter(Boolean).join(" · ")), " ",
    make("button", { type: "button", class: "quiet small", "aria-label": `${w("takeBack")}: ${w("ops")[change.op]} ${spoken(change)}`, onclick: () => { if (desk.isSaving) return; desk.edits = desk.edits.filter((each) => each.number !== number); redo(); draw(); } }, w("takeBack")))));
  byId("redact-edited").textContent = edits.length ? w("edited", { count: edits.length, base: desk.base }) : w("notEdited", { base: desk.base });
  byId("redact-go").disabled = !edits.length;
  const { from, to } = desk.marks, { picture } = desk.plan;
  byId("redact-marked").textContent = [from, to].map((pts) => (pts === null ? "…" : at(microsOfPts(picture, pts)))).join(" – ");
}

// What the output stands at, from what the server says of the item and its versions.
function drawStanding() {
  const { plans, detail } = desk, newest = plans.at(-1), facet = detail.facets.redaction, number = newest.number;
  const failure = detail.flags.find((flag) => flag.code === "redaction_check_failed");
  const told = newest.awaits_approval ? "awaits" : facet === "proposed" ? (failure ? "checkFailed" : "making") : facet === "approved" || newest.approved_at ? "isApproved" : ["checked", "released"].includes(facet) ? "isChecked" : "isOther";
  const isWithdrawn = facet === "proposed" && number > 1 && !newest.awaits_approval;
  byId("redact-standing").replaceChildren(make("span", { class: `chip ${{ isChecked: "good", isApproved: "good", checkFailed: "bad" }[told] || "wait"}` }, w(told, { number })), ...(isWithdrawn ? [" ", make("span", { class: "chip wait" }, w("withdrawn"))] : []),
    ...(number > desk.base ? [" ", make("span", { class: "chip bad" }, w("newer", { number, by: who(newest.author) }))] : []));
  if (number > desk.base) byId("redact-reload").hidden = false;
  const findings = failure ? detail.check_findings.slice(0, FINDINGS) : [];
  byId("redact-findings").hidden = !failure;
  byId("redact-findings").replaceChildren(...(failure && !findings.length ? [make("li", {}, failure.message)] : []), ...findings.map((each) => make("li", {}, each[state.language], " ",
    each.at_us === null || each.at_us === undefined ? null : make("button", { type: "button", class: "quiet small", onclick: () => desk.stage.seek(each.at_us) }, at(each.at_us)))));
  const mayApprove = newest.awaits_approval && state.me.acts.includes("approve_redaction");
  byId("redact-approval").hidden = !mayApprove;
}

function drawHistory() {
  byId("redact-history").replaceChildren(...desk.plans.toReversed().map((each) => make("li", {},
    make("b", {}, w("version", { number: each.number })), " ", [who(each.author), when(each.made_at), each.note].filter(Boolean).join(" · "), " ",
    each.reveals && each.number > 1 ? make("span", { class: "chip wait" }, w("reveals")) : null, each.approved_at ? make("span", { class: "chip good" }, w("wasApproved", { at: when(each.approved_at) })) : null, " ",
    each.number < desk.base ? make("button", { type: "button", class: "quiet small", onclick: restore(each.number) }, w("restore")) : null)));
}

// -- keyboard and start ---------------------------------------------------------------------

const KEYS = { " ": () => desk.stage.play(), ArrowLeft: (event) => move(event, -1), ArrowRight: (event) => move(event, 1), Delete: () => act("delete"),
  a: () => act("accept"), b: () => startDrawing(), i: () => mark("from"), o: () => mark("to"), Enter: () => { if (desk.stage.isDrawing) desk.stage.drawInMiddle(); } };

const move = (event, by) => (event.shiftKey ? desk.stage.seek(desk.stage.micros + by * 1e6) : desk.stage.step(by));
const startDrawing = () => { if (desk.plan.picture) { desk.stage.beginDrawing(!desk.stage.isDrawing); tell(desk.stage.isDrawing ? w("drawNow") : "", false); } };

function takeBackLast() {
  if (desk.isSaving) return;
  desk.edits = desk.edits.slice(0, -1);
  redo();
  draw();
}

function onKey(event) {
  const isTyping = event.target.closest("input, select, textarea");
  if (desk?.stage && !isTyping && event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); takeBackLast(); return; }
  if (!desk?.stage || event.ctrlKey || event.metaKey || event.altKey || isTyping || event.target.closest("video[controls]")) return;
  if ([" ", "Enter"].includes(event.key) && event.target.closest("button, a, summary")) return;
  const press = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!press) return;
  event.preventDefault();
  press(event);
}

function onEscape(event) {
  event.preventDefault();
  if (desk?.stage?.letGo()) return;
  if (desk?.selected) select(null);
  else closeRedaction().catch((problem) => tell(problem.message));
}

const options = (names, words) => names.map((name) => make("option", { value: name }, words(name)));

function translateDesk() {
  for (const select_ of document.querySelectorAll("#redact select")) {
    const kept = select_.value, words = { class: [CLASSES, (name) => w("whats")[name]], reason: [REASONS, reasonWord], shape: [SHAPES, (name) => w("shapes")[name]], kind: [SPANS, (name) => w("spans")[name]] }[select_.name];
    select_.replaceChildren(...options(...words));
    if (kept) select_.value = kept;
  }
}

const controls = { play: () => desk.stage.play(), previous: () => desk.stage.step(-1), next: () => desk.stage.step(1), drawBox: startDrawing, markIn: () => mark("from"), markOut: () => mark("to") };
for (const button of document.querySelectorAll("#redact [data-redact]")) {
  const name = button.dataset.redact;
  button.addEventListener("click", () => (controls[name] ? controls[name]() : act(name)));
}
byId("redact").addEventListener("keydown", onKey);
byId("redact").addEventListener("cancel", onEscape);
// Browsers close it all the same when Esc is pressed again and again.
byId("redact").addEventListener("close", () => closeRedaction(false).catch((problem) => tell(problem.message)));
byId("redact-close").addEventListener("click", () => closeRedaction().catch((problem) => tell(problem.message)));
byId("redact-door").addEventListener("submit", begin);
byId("redact-span").addEventListener("submit", addSpan);
byId("redact-save").addEventListener("submit", save);
byId("redact-reload").addEventListener("click", reload);
byId("redact-new").addEventListener("submit", (event) => event.preventDefault());
byId("redact-chosen").addEventListener("submit", (event) => { event.preventDefault(); act("setBox"); });
byId("redact-chosen").elements.class.addEventListener("change", ({ target }) => edit({ op: "set_class", track: desk.selected, class: target.value }));
byId("redact-chosen").elements.reason.addEventListener("change", heeding(({ target }) => edit({ op: "set_reason", track: desk.selected, reason: target.value, text: target.value === "other" ? said() : undefined })));
byId("redact-seek").addEventListener("input", ({ target }) => desk.stage.seek(Number(target.value)));
byId("redact-before").addEventListener("click", () => { desk.page -= 1; drawList(); });
byId("redact-after").addEventListener("click", () => { desk.page += 1; drawList(); });
byId("redact-picture").addEventListener("click", (event) => preview(null)(event));
byId("redact-clip").addEventListener("click", (event) => preview(PREVIEW_US)(event));
byId("redact-watch").addEventListener("click", watchAwaiting);
byId("redact-approve").addEventListener("click", approve);
window.addEventListener("beforeunload", (event) => { if (desk?.edits.length) event.preventDefault(); });
window.addEventListener("pagehide", () => { for (const grant of [desk?.grant, desk?.awaiting].filter(Boolean)) release(grant, { keepalive: true }); });
