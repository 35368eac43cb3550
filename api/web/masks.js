// What a redaction plan hides at a moment, and what it would hide with edits that nobody has saved yet.
//
// Arithmetic and nothing else: no element, no request. Boxes are those of `redaction/plan.py` and `redaction/geometry.py`,
// in whole numbers and rounded as there, and a test compares both: what is outlined is what will be hidden. Edits are the
// changes of the API, in order; a plan with edits is made anew from the plan each time, so that any of them can be taken back.

export const HIDING = new Set(["proposed", "accepted"]);
const CORNER_UNITS = 100;
const NEW = "new-";

// -- times ----------------------------------------------------------------------------------

// Microseconds of media time of a picture, and the picture time of a moment; where there is no picture times are microseconds.
export function microsOfPts(picture, pts) {
  if (!picture) return pts;
  const [num, den] = picture.time_base;
  return Math.ceil(((pts - picture.first_pts) * num * 1e6) / den);
}

export function ptsOfMicros(picture, micros) {
  if (!picture) return Math.round(micros);
  const [num, den] = picture.time_base;
  return picture.first_pts + Math.round((micros * den) / (num * 1e6));
}

// -- boxes ----------------------------------------------------------------------------------

const floorDiv = (value, by) => Math.floor(value / by);
const ceilDiv = (value, by) => Math.ceil(value / by);
const isEmpty = ([x0, y0, x1, y1]) => x1 <= x0 || y1 <= y0;
const clip = ([x0, y0, x1, y1], { width_px, height_px }) => [Math.max(0, x0), Math.max(0, y0), Math.min(width_px, x1), Math.min(height_px, y1)];
const boxOf = (key) => key.slice(1, 5);
const isOutside = (key) => Boolean(key[5]);

function between(one, other, elapsed, whole, isInward) {
  const remaining = whole - elapsed;
  return one.map((edge, at) => ((at < 2) !== isInward ? floorDiv : ceilDiv)(edge * remaining + other[at] * elapsed, whole));
}

function evenCover(box, size) {
  const [x0, y0, x1, y1] = clip(box, size);
  return [x0 & ~1, y0 & ~1, (x1 + 1) & ~1, (y1 + 1) & ~1];
}

function allBut(box, { width_px, height_px }) {
  const [x0, y0, x1, y1] = clip(box, { width_px, height_px });
  const bare = [(x0 + 1) & ~1, (y0 + 1) & ~1, x1 & ~1, y1 & ~1];
  if (isEmpty(bare)) return [[0, 0, width_px, height_px]];
  return [[0, 0, width_px, bare[1]], [0, bare[3], width_px, height_px], [0, bare[1], bare[0], bare[3]], [bare[2], bare[1], width_px, bare[3]]].filter((part) => !isEmpty(part));
}

export const aroundBoth = (one, other) => [Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.max(one[2], other[2]), Math.max(one[3], other[3])];

export function around(points) {
  const across = points.map(([x]) => x / CORNER_UNITS), down = points.map(([, y]) => y / CORNER_UNITS);
  return [Math.floor(Math.min(...across)), Math.floor(Math.min(...down)), Math.ceil(Math.max(...across)), Math.ceil(Math.max(...down))];
}

// Whether two polygons list their corners alike: as many, the same way round, from the same one on.
function isAlike(one, other) {
  if (one.length !== other.length) return false;
  const way = (corners) => Math.sign(corners.reduce((sum, [x, y], at) => { const [xNext, yNext] = corners[(at + 1) % corners.length]; return sum + x * yNext - xNext * y; }, 0));
  if (way(one) * way(other) <= 0) return false;
  const moved = (shift) => other.reduce((sum, [x, y], at) => { const [x0, y0] = one[(at - shift + one.length) % one.length]; return sum + (x0 - x) ** 2 + (y0 - y) ** 2; }, 0);
  const first = moved(0);
  return one.every((_, shift) => first <= moved(shift));
}

// The key in force and the one that its box is on the way to; null: it stays.
function keysAround(keys, pts) {
  let low = 0, high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle][0] <= pts) low = middle + 1; else high = middle;
  }
  const here = keys[low - 1], after = keys[low];
  return isOutside(here) || here[0] === pts || !after || isOutside(after) ? [here, null] : [here, after];
}

const onTheWay = (here, after, pts, isInward = false) => (after ? between(boxOf(here), boxOf(after), pts - here[0], after[0] - here[0], isInward) : boxOf(here));

export const covers = (track, pts) => track.keys[0][0] <= pts && pts <= track.keys.at(-1)[0];

// Where a track's box is at a moment, as its keys say it; null: it is not there.
export function boxAt(track, pts) {
  if (!covers(track, pts)) return null;
  const [here, after] = keysAround(track.keys, pts);
  if (isOutside(here)) return null;
  if (track.shape === "polygon") return around(polygonAt(here, after, pts));
  return onTheWay(here, after, pts, track.shape === "all_but");
}

function polygonAt(here, after, pts) {
  if (!after || !isAlike(here[6], after[6])) return here[6];
  const share = (pts - here[0]) / (after[0] - here[0]);
  return here[6].map(([x, y], at) => [x + share * (after[6][at][0] - x), y + share * (after[6][at][1] - y)]);
}

// A key at a moment whose box is another one; the corners of a polygon go with it.
export function keyAt(track, pts, box) {
  if (track.shape !== "polygon") return [pts, ...box, 0];
  const [here, after] = keysAround(track.keys, Math.min(Math.max(pts, track.keys[0][0]), track.keys.at(-1)[0]));
  const points = polygonAt(here, after, pts), old = around(points);
  const scaled = (value, at) => Math.round(CORNER_UNITS * box[at] + ((value - CORNER_UNITS * old[at]) * (box[at + 2] - box[at])) / (old[at + 2] - old[at]));
  const moved = points.map(([x, y]) => [scaled(x, 0), scaled(y, 1)]);
  return [pts, ...around(moved), 0, moved];
}

// What one track covers at a moment: parts { box, shape, points }, as it is painted.
export function partsOf(track, pts, picture) {
  if (!covers(track, pts)) return [];
  const [here, after] = keysAround(track.keys, pts);
  if (track.shape === "all_but") {
    const boxes = isOutside(here) ? [[0, 0, picture.width_px, picture.height_px]] : allBut(onTheWay(here, after, pts, true), picture);
    return boxes.map((box) => ({ box, shape: "rectangle" }));
  }
  if (isOutside(here)) return [];
  let box, shape = track.shape, points = null;
  if (shape === "polygon") {
    if (after && !isAlike(here[6], after[6])) [box, shape] = [aroundBoth(boxOf(here), boxOf(after)), "rectangle"];
    else {
      points = polygonAt(here, after, pts);
      box = after ? around(points) : boxOf(here);
      if (after && isEmpty(clip(box, picture))) [box, shape, points] = [aroundBoth(boxOf(here), boxOf(after)), "rectangle", null];
    }
  } else box = onTheWay(here, after, pts);
  const inside = clip(box, picture);
  if (isEmpty(inside)) return [];
  if (shape === "ellipse" && inside.some((edge, at) => edge !== box[at])) shape = "rectangle";
  return [{ box: evenCover(box, picture), shape, points }];
}

// Tracks that are there at a moment, and the frames hidden whole: of thousands of tracks only those are looked at further.
export function shownAt(plan, pts) {
  if (!plan.picture) return { tracks: [], frames: [] };
  return { tracks: plan.tracks.filter((track) => covers(track, pts)), frames: plan.whole_frame_spans.filter((span) => span.from_pts <= pts && pts <= span.to_pts) };
}

// -- edits ----------------------------------------------------------------------------------

export const isNew = (id) => id.startsWith(NEW);

const kept = (entries, id, facts) => {
  if (!entries.some((entry) => entry.id === id)) return null;
  return entries.map((entry) => (entry.id === id ? { ...entry, ...facts(entry) } : entry));
};

const withKey = (track, key) => [...track.keys.filter((other) => other[0] !== key[0]), key].sort((one, other) => one[0] - other[0]);

function extended(track, picture) {
  const known = track.keys.find((key) => !isOutside(key));
  if (track.shape !== "all_but" && !known) return null;
  let last = known;
  const keys = track.shape === "all_but" ? [...track.keys] : track.keys.map((key) => { if (!isOutside(key)) last = key; return [key[0], ...last.slice(1)]; });
  if (keys[0][0] > picture.first_pts) keys.unshift([picture.first_pts, ...keys[0].slice(1)]);
  if (keys.at(-1)[0] < picture.last_pts) keys.push([picture.last_pts, ...keys.at(-1).slice(1)]);
  return keys;
}

function split(plan, { track: id, pts }, name) {
  const track = plan.tracks.find((each) => each.id === id);
  if (!track || pts <= track.keys[0][0] || pts >= track.keys.at(-1)[0]) return null;
  const [here, after] = keysAround(track.keys, pts);
  const cut = here[0] === pts ? here : isOutside(here) || !after ? [pts, ...here.slice(1)] : ["rectangle", "all_but"].includes(track.shape) ? [pts, ...onTheWay(here, after, pts, track.shape === "all_but"), 0] : null;
  if (!cut || isEmpty(boxOf(cut))) return null;
  const head = { ...track, keys: [...track.keys.filter((key) => key[0] < pts), cut] };
  const tail = { ...track, id: name, keys: [cut, ...track.keys.filter((key) => key[0] > pts)] };
  return { tracks: plan.tracks.flatMap((each) => (each === track ? [head, tail] : [each])) };
}

const mine = { origin: "account", by: "me" };
const refused = () => ({ ...mine, state: "refused" });
const text = (edit) => (edit.text ? { reason_text: edit.text } : {});
const changed = (list, ...rest) => (plan, edit) => { const found = kept(plan[list], edit[list === "tracks" ? "track" : "span"], rest[0].bind(null, edit, plan)); return found && { [list]: found }; };
const drawn = (keys) => ({ ...mine, keys, state: "accepted" });

// What each change of the API does to a plan, as far as people see it; null: it cannot be done to this one.
const OPERATIONS = {
  add_box: (plan, edit, name) => ({ tracks: [...plan.tracks, { id: name, class: edit.class || "manual", shape: edit.shape, keys: edit.keys, reason: edit.reason, ...text(edit), ...mine, state: "accepted", score_permille: 0 }] }),
  set_key: changed("tracks", (edit, plan, track) => drawn(withKey(track, edit.key))),
  move_box: changed("tracks", (edit, plan, track) => ({ ...drawn(edit.keys), shape: edit.shape || track.shape })),
  extend_track: (plan, edit) => {
    const track = plan.tracks.find((each) => each.id === edit.track), keys = track && HIDING.has(track.state) && extended(track, plan.picture);
    return keys ? { tracks: kept(plan.tracks, edit.track, () => ({ ...mine, keys })) } : null;
  },
  split_track: split,
  accept_box: changed("tracks", () => ({ state: "accepted" })),
  delete_box: changed("tracks", refused),
  keep_visible: changed("tracks", (edit) => ({ ...mine, state: "kept_visible", reason_text: edit.text })),
  set_class: changed("tracks", (edit) => ({ class: edit.class })),
  set_reason: changed("tracks", (edit) => ({ reason: edit.reason, reason_text: edit.text })),
  mask_frames: (plan, edit, name) => ({ whole_frame_spans: [...plan.whole_frame_spans, { id: name, from_pts: edit.from_pts, to_pts: edit.to_pts, reason: edit.reason, ...text(edit), ...mine, state: "accepted" }] }),
  unmask_frames: changed("whole_frame_spans", refused),
  mute: (plan, edit, name) => ({ muted_spans: [...plan.muted_spans, { id: name, from_us: edit.from_us, to_us: edit.to_us, stream: edit.stream, kind: edit.kind, reason: edit.reason, ...text(edit), ...mine, state: "accepted" }] }),
  unmute: changed("muted_spans", refused),
};

// A plan with edits, each { number, change }: and the numbers of those that cannot be done to it any more.
export function withEdits(plan, edits) {
  const failed = new Set();
  let draft = plan;
  for (const { number, change } of edits) {
    const made = OPERATIONS[change.op](draft, change, `${NEW}${number}`);
    if (made) draft = { ...draft, ...made }; else failed.add(number);
  }
  return { draft, failed };
}

// Another edit behind those there are. What is new has no name on the server yet: what is done to it changes how it is made.
export function addEdit(edits, number, change, picture) {
  const of = change.track || change.span || "";
  if (!isNew(of)) return [...edits, { number, change }];
  const at = edits.findIndex((edit) => `${NEW}${edit.number}` === of);
  if (at < 0 || edits[at].change.op === "split_track") return null;
  const made = edits[at].change;
  const next = { delete_box: () => null, unmask_frames: () => null, unmute: () => null, accept_box: () => made,
    set_key: () => ({ ...made, keys: withKey(made, change.key) }), move_box: () => ({ ...made, keys: change.keys }),
    set_class: () => ({ ...made, class: change.class }), set_reason: () => ({ ...made, reason: change.reason, text: change.text }),
    extend_track: () => ({ ...made, keys: extended(made, picture) }) }[change.op];
  if (!next) return null;
  const became = next();
  return became ? edits.with(at, { ...edits[at], change: became }) : edits.toSpliced(at, 1);
}

// -- what is hidden, as a list --------------------------------------------------------------

// One entry for each track and span, doubtful ones first, then those nobody looked at, the least sure first, then by time.
export function listed(plan) {
  const doubt = new Map();
  for (const each of plan.doubtful) doubt.set(each.track, [...(doubt.get(each.track) || []), each]);
  const why = (id) => [...new Set((doubt.get(id) || []).map((each) => each.why))];
  const us = (pts) => microsOfPts(plan.picture, pts);
  const common = (kind, each) => ({ kind, id: each.id, by: each.by, origin: each.origin, state: each.state, reason: each.reason, text: each.reason_text, score: each.score_permille || 0, why: why(each.id) });
  const entries = [
    ...plan.tracks.map((track) => ({ ...common("track", track), what: track.class, shape: track.shape, from: us(track.keys[0][0]), to: us(track.keys.at(-1)[0]) })),
    ...plan.whole_frame_spans.map((span) => ({ ...common("frames", span), what: "frames", from: us(span.from_pts), to: us(span.to_pts) })),
    ...plan.muted_spans.map((span) => ({ ...common("sound", span), what: span.kind, from: span.from_us, to: span.to_us })),
  ];
  const known = new Set(entries.map((entry) => entry.id));
  for (const [id, spans] of doubt) {
    if (!known.has(id)) entries.push(...spans.map((each) => ({ kind: "doubt", id: null, what: "doubt", state: "doubtful", why: [each.why], score: 0, from: us(each.from_pts), to: us(each.to_pts) })));
  }
  for (const entry of entries) entry.isDoubtful = entry.why.length > 0 && (entry.kind === "doubt" || entry.state === "proposed");
  const rank = (entry) => (entry.isDoubtful ? 0 : entry.state === "proposed" ? 1 : HIDING.has(entry.state) ? 2 : 3);
  return entries.sort((one, other) => rank(one) - rank(other) || (rank(one) === 1 ? one.score - other.score : 0) || one.from - other.from);
}
