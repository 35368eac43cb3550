// One HLS playlist of fragmented MP4 in one <video>: what browsers do not play by themselves.
//
// Segments are byte ranges; each is put where the playlist has it. A fragment's own clock is that of its file,
// so the difference is worked out at the first fragment of each file (behind EXT-X-DISCONTINUITY) and kept. When
// each picture is shown is read from the fragments, so that one can step by picture whatever the rate.
// Source: RFC 8216; ISO/IEC 14496-12 clauses 8.8.7 (tfhd), 8.8.8 (trun), 8.8.12 (tfdt).

import { Problem, microsOf, pause } from "./common.js";

const AHEAD_S = 16;
const BEHIND_S = 6;
const KEEP_S = 60;
const CONTAINERS = new Set(["moov", "trak", "mdia", "minf", "stbl", "mvex", "moof", "traf"]);
const TRIES = 3;
const UPDATE_MS = 10000;
const FOREVER_S = 30 * 86400;

// -- playlists ------------------------------------------------------------------------------

export function readPlaylist(text, base) {
  const segments = [];
  let init = null, length = 0, range = null, part = 0, at = 0, next = 0, date = null;
  for (const line of text.split(/\r?\n/)) {
    const [, tag, rest] = /^#(EXT[A-Z0-9-]*):?(.*)$/.exec(line) || [];
    if (tag === "EXT-X-MAP") {
      const [, count, first] = /BYTERANGE="(\d+)(?:@(\d+))?"/.exec(rest) || [null, "0", "0"];
      init = { url: new URL(/URI="([^"]*)"/.exec(rest)[1], base).href, first: Number(first || 0), count: Number(count) };
    } else if (tag === "EXT-X-DISCONTINUITY") part += 1;
    else if (tag === "EXT-X-PROGRAM-DATE-TIME") date = microsOf(rest);
    else if (tag === "EXTINF") length = parseFloat(rest);
    else if (tag === "EXT-X-BYTERANGE") range = rest.split("@").map(Number);
    else if (line && !line.startsWith("#")) {
      const [count, first = next] = range || [0, 0];
      segments.push({ url: new URL(line, base).href, first, count, at, end: at + length, part, init, date, isLoaded: false });
      if (date !== null) date += Math.round(length * 1e6);
      at += length;
      next = first + count;
      range = null;
    }
  }
  return segments;
}

// What a list tells beyond what is known of it; an update leaves out its beginning, and says how much.
export function newSegments(known, text, base) {
  const skipped = Number(/^#EXT-X-SKIP:SKIPPED-SEGMENTS=(\d+)/m.exec(text)?.[1] || 0);
  const listed = readPlaylist(text, base), first = known[skipped];
  // Told so long ago that what lies between was left out: the next list is to be asked for whole.
  if (skipped && (!first || !listed.length)) return null;
  const later = skipped ? first.at : 0, parts = skipped ? first.part - listed[0].part : 0;
  return listed.slice(known.length - skipped).map((each) => ({ ...each, at: each.at + later, end: each.end + later, part: each.part + parts }));
}

// -- boxes ----------------------------------------------------------------------------------

function* boxes(view, from = 0, to = view.byteLength) {
  for (let at = from; at + 8 <= to;) {
    let size = view.getUint32(at), head = 8;
    const kind = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5), view.getUint8(at + 6), view.getUint8(at + 7));
    if (size === 1) { size = Number(view.getBigUint64(at + 8)); head = 16; }
    if (size < head || at + size > to) return;
    yield { kind, from: at + head, to: at + size };
    at += size;
  }
}

function* within(view, box) {
  for (const child of boxes(view, box.from, box.to)) {
    yield child;
    if (CONTAINERS.has(child.kind)) yield* within(view, child);
  }
}

// By how much pictures are turned clockwise to be shown, from the first row of a track's matrix (16.16).
const turnOf = (view, at) => Math.round((Math.atan2(view.getInt32(at + 4), view.getInt32(at)) * 180) / Math.PI);

const hex = (value) => value.toString(16).padStart(2, "0");

// The tracks of an initialisation: what decodes them, and how their clocks tick.
export function readInit(view) {
  const tracks = [], steps = new Map(), usual = new Map();
  for (const box of within(view, { from: 0, to: view.byteLength })) {
    const isLong = box.to > box.from && view.getUint8(box.from) === 1;
    if (box.kind === "tkhd") tracks.push({ id: view.getUint32(box.from + (isLong ? 20 : 12)), turnDeg: turnOf(view, box.from + (isLong ? 52 : 40)) });
    else if (box.kind === "trex") { steps.set(view.getUint32(box.from + 4), view.getUint32(box.from + 12)); usual.set(view.getUint32(box.from + 4), view.getUint32(box.from + 20)); }
    else if (box.kind === "mdhd") tracks.at(-1).timescale = view.getUint32(box.from + (isLong ? 20 : 12));
    else if (box.kind === "stsd") {
      for (const entry of boxes(view, box.from + 8, box.to)) {
        const track = tracks.at(-1);
        track.codec = entry.kind === "mp4a" ? "mp4a.40.2" : entry.kind;
        track.isPicture = false;
        if (/^(avc|hvc|hev|av0|vp0)/.test(entry.kind)) {
          track.isPicture = true;
          for (const setup of boxes(view, entry.from + 78, entry.to)) {
            if (setup.kind === "avcC") track.codec = `${entry.kind}.${[1, 2, 3].map((at) => hex(view.getUint8(setup.from + at))).join("")}`;
          }
        }
      }
    }
  }
  for (const track of tracks) Object.assign(track, { step: steps.get(track.id) || 0, usual: usual.get(track.id) || 0 });
  return tracks;
}

// When the pictures of a segment are shown (or its sound begins), in seconds of its file's clock.
export function readShown(view, tracks) {
  const main = tracks.find((track) => track.isPicture) || tracks[0];
  const shown = [];
  for (const moof of boxes(view)) {
    if (moof.kind !== "moof") continue;
    for (const traf of boxes(view, moof.from, moof.to)) {
      if (traf.kind === "traf") readRuns(view, traf, main, shown);
    }
  }
  return shown.sort((one, two) => one - two);
}

function readRuns(view, traf, main, shown) {
  let step = main.step, time = 0;
  for (const box of boxes(view, traf.from, traf.to)) {
    const flags = view.getUint32(box.from) & 0xffffff;
    if (box.kind === "tfhd") {
      if (view.getUint32(box.from + 4) !== main.id) return;
      if (flags & 0x08) step = view.getUint32(box.from + 8 + (flags & 0x01 ? 8 : 0) + (flags & 0x02 ? 4 : 0));
    } else if (box.kind === "tfdt") {
      time = view.getUint8(box.from) === 1 ? Number(view.getBigUint64(box.from + 4)) : view.getUint32(box.from + 4);
    } else if (box.kind === "trun") {
      const count = view.getUint32(box.from + 4);
      let at = box.from + 8 + (flags & 0x01 ? 4 : 0) + (flags & 0x04 ? 4 : 0);
      for (let number = 0; number < count; number++) {
        const lasts = flags & 0x100 ? view.getUint32(at) : step;
        at += (flags & 0x100 ? 4 : 0) + (flags & 0x200 ? 4 : 0) + (flags & 0x400 ? 4 : 0);
        const shift = flags & 0x800 ? view.getInt32(at) : 0;
        at += flags & 0x800 ? 4 : 0;
        shown.push((time + shift) / main.timescale);
        time += lasts;
      }
    }
  }
}

// Whether a segment can be begun with: its first picture needs none before it (sound never does).
export function beginsWithKey(view, tracks) {
  const main = tracks.find((track) => track.isPicture);
  if (!main) return true;
  for (const moof of boxes(view)) {
    if (moof.kind !== "moof") continue;
    for (const traf of boxes(view, moof.from, moof.to)) {
      if (traf.kind !== "traf") continue;
      let usual = main.usual;
      for (const box of boxes(view, traf.from, traf.to)) {
        const flags = view.getUint32(box.from) & 0xffffff;
        if (box.kind === "tfhd") {
          if (view.getUint32(box.from + 4) !== main.id) break;
          const at = box.from + 8 + (flags & 0x01 ? 8 : 0) + (flags & 0x02 ? 4 : 0) + (flags & 0x08 ? 4 : 0) + (flags & 0x10 ? 4 : 0);
          if (flags & 0x20) usual = view.getUint32(at);
        } else if (box.kind === "trun") {
          let at = box.from + 8 + (flags & 0x01 ? 4 : 0);
          if (flags & 0x400 && !(flags & 0x04)) at += (flags & 0x100 ? 4 : 0) + (flags & 0x200 ? 4 : 0);
          return ((flags & 0x404 ? view.getUint32(at) : usual) & 0x10000) === 0;
        }
      }
    }
  }
  return false;
}

// -- playing --------------------------------------------------------------------------------

export class Source {
  #segments = [];
  #skips = false;
  #readAt = 0;
  #inits = new Map();
  #offsets = new Map();
  #shown = new Map();
  #media = null;
  #buffer = null;
  #layout = null;
  #initUsed = null;
  #isBusy = false;
  #url = null;
  #base = null;
  #last = null;
  #ending = new AbortController();

  // What is to be read beside the pictures: shown or not as people choose; without any there is no track.
  captions = null;
  readsCaptions = false;
  // The size of picture to be chosen where there are several; null: the first one offered.
  wanted = null;
  turnDeg = 0;

  // follows: its list grows; `refresh` takes up what was told since.
  constructor(video, address, onProblem, follows = false) {
    this.video = video;
    this.address = address;
    this.onProblem = onProblem;
    this.follows = follows;
    this.pump = () => this.#pump();
  }

  async open(startS = 0) {
    if (!window.MediaSource) { this.video.src = this.address; this.video.currentTime = startS; return; }
    let base = new URL(this.address, location.href).href;
    let text = await this.#text(base);
    if (text.includes("#EXT-X-STREAM-INF")) {
      const rungs = [...text.matchAll(/#EXT-X-STREAM-INF:([^\n]*)\n([^#\s][^\n]*)/g)];
      const size = this.wanted && `RESOLUTION=${this.wanted.width_px}x${this.wanted.height_px}`;
      const [, attributes, list] = rungs.find((rung) => rung[1].split(",").includes(size)) || rungs[0];
      const group = /SUBTITLES="([^"]*)"/.exec(attributes)?.[1];
      const beside = group && text.split("\n").find((line) => line.startsWith("#EXT-X-MEDIA:") && line.includes(`GROUP-ID="${group}"`));
      if (beside) this.#read(beside, base).catch((problem) => { if (!this.#ending.signal.aborted) this.video.dispatchEvent(new CustomEvent("captions-missing", { detail: problem })); });
      base = new URL(list.trim(), base).href;
      text = await this.#text(base);
    }
    this.#base = base;
    this.#readAt = performance.now();
    this.#skips = text.includes("CAN-SKIP-UNTIL");
    this.#segments = readPlaylist(text, base);
    this.isOpen = this.follows && !text.includes("#EXT-X-ENDLIST");
    if (!this.#segments.length) throw new Problem(404, { detail: "playlist: expected segments, found none" });
    for (const name of ["seeking", "timeupdate", "waiting"]) this.video.addEventListener(name, this.pump, { signal: this.#ending.signal });
    await this.#begin(typeof startS === "function" ? startS(this.segments) : startS);
    this.#pump();
  }

  // Cues stand at positions of the list, as the pictures do; one that is read over an edge is in both pieces.
  async #read(line, base) {
    const list = new URL(/URI="([^"]*)"/.exec(line)[1], base).href;
    const cues = new Set();
    for (const piece of (await this.#text(list)).split("\n").filter((each) => each && !each.startsWith("#"))) {
      for (const [cue] of (await this.#text(new URL(piece, list).href)).matchAll(/^[\d:.]+ --> [^\n]+\n[^\n]+/gm)) cues.add(cue);
    }
    if (this.#ending.signal.aborted) return;
    this.captions = document.createElement("track");
    const src = URL.createObjectURL(new Blob([["WEBVTT", ...cues].join("\n\n")], { type: "text/vtt" }));
    Object.assign(this.captions, { kind: "captions", label: /NAME="([^"]*)"/.exec(line)[1], src });
    this.video.append(this.captions);
    this.readCaptions(this.readsCaptions);
    this.video.dispatchEvent(new Event("captions"));
  }

  readCaptions(isShown) {
    this.readsCaptions = isShown;
    if (this.captions) this.captions.track.mode = isShown ? "showing" : "hidden";
  }

  // Lists that grow only grow: what is known of them stays.
  async refresh() {
    if (!this.isOpen || this.#ending.signal.aborted) return;
    const isNear = this.#skips && performance.now() - this.#readAt < UPDATE_MS;
    const asked = performance.now();
    const text = await this.#text(isNear ? `${this.#base}?_HLS_skip=YES` : this.#base);
    const told = newSegments(this.#segments, text, this.#base);
    this.#readAt = told ? asked : -Infinity;
    if (!told) return;
    this.#segments.push(...told);
    this.isOpen = !text.includes("#EXT-X-ENDLIST");
    this.#pump();
  }

  get segments() { return this.#segments; }

  get lengthS() { return this.#segments.at(-1)?.end || 0; }

  // When the pictures around a position are shown, as far as they were loaded: positions of the playlist.
  picturesNear(positionS) {
    return this.#segments
      .filter((segment) => segment.end > positionS - BEHIND_S && segment.at < positionS + BEHIND_S && this.#shown.has(segment))
      .flatMap((segment) => this.#shown.get(segment));
  }

  // What the clock of the file says at a position, in seconds; null: nothing of it was loaded yet.
  clockAt(positionS) {
    const offset = this.#offsets.get(this.#segmentAt(positionS).part);
    return offset === undefined ? null : positionS - offset;
  }

  holds(positionS) {
    const { buffered } = this.video;
    for (let number = 0; number < buffered.length; number++) {
      if (buffered.start(number) - 0.05 <= positionS && positionS < buffered.end(number) + 0.05) return true;
    }
    return false;
  }

  close() {
    this.#ending.abort();
    if (this.captions) { URL.revokeObjectURL(this.captions.src); this.captions.remove(); }
    this.video.removeAttribute("src");
    this.video.load();
    if (this.#url) URL.revokeObjectURL(this.#url);
  }

  async #begin(atS) {
    const first = this.#segmentAt(atS);
    const { view, tracks } = await this.#initOf(first);
    this.#layout = layoutOf(tracks);
    this.turnDeg = tracks.find((track) => track.isPicture)?.turnDeg || 0;
    this.#initUsed = this.#last = null;
    for (const segment of this.#segments) segment.isLoaded = false;
    if (this.#url) URL.revokeObjectURL(this.#url);
    const media = (this.#media = new MediaSource());
    this.#url = URL.createObjectURL(media);
    const opened = new Promise((done) => media.addEventListener("sourceopen", done, { once: true }));
    this.video.src = this.#url;
    await opened;
    media.duration = this.follows ? FOREVER_S : this.lengthS;
    this.#buffer = media.addSourceBuffer(mimeOf(tracks));
    await this.#append(view, 0);
    this.#initUsed = initKey(first);
    if (atS) this.video.currentTime = atS;
  }

  #segmentAt(positionS) {
    return this.#segments.find((segment) => segment.end > positionS + 1e-6) || this.#segments.at(-1);
  }

  #wanted() {
    const at = this.video.currentTime;
    const here = this.#segmentAt(at);
    if (this.#lacks(here)) return here;
    return this.#segments.find((segment) => segment.end > at && segment.at < at + AHEAD_S && this.#lacks(segment))
      || this.#segments.find((segment) => segment.end > at - BEHIND_S && segment.at < at && this.#lacks(segment));
  }

  // Browsers throw away what was loaded, unasked, where footage of a high rate fills their memory for it.
  #lacks(segment) { return !segment.isLoaded || this.#uncovered(segment) > segment.uncovered + 0.1; }

  // How much of a segment is not buffered, in seconds.
  #uncovered({ at, end }) {
    const { buffered } = this.video;
    let left = end - at;
    for (let number = 0; number < buffered.length; number++) {
      left -= Math.max(0, Math.min(end, buffered.end(number)) - Math.max(at, buffered.start(number)));
    }
    return left;
  }

  async #pump() {
    if (this.#isBusy || this.#ending.signal.aborted) return;
    this.#isBusy = true;
    try {
      for (let segment = this.#wanted(); segment; segment = this.#wanted()) {
        if (!(await this.#load(segment))) break;
      }
      this.#overSmallHoles();
      if (!this.follows && this.#segments.at(-1).isLoaded && this.#media.readyState === "open" && !this.#buffer.updating) this.#media.endOfStream();
    } catch (problem) {
      if (!this.#ending.signal.aborted) this.onProblem(problem);
    } finally { this.#isBusy = false; }
  }

  // False: it has other tracks than what plays, which one buffer cannot hold; it waits until playing gets to it.
  async #load(segment) {
    const { view: init, tracks } = await this.#initOf(segment);
    if (layoutOf(tracks) !== this.#layout) {
      if (segment !== this.#segmentAt(this.video.currentTime)) return false;
      const isPlaying = !this.video.paused;
      await this.#begin(this.video.currentTime);
      if (isPlaying) this.video.play().catch(() => {});
      return true;
    }
    const view = new DataView(await this.#bytes(segment.url, segment.first, segment.count));
    // Cameras whose keyframes are far apart: what it begins in the middle of is to be put in directly before.
    const before = this.#segments[this.#segments.indexOf(segment) - 1];
    if (before?.part === segment.part && this.#last !== before && !beginsWithKey(view, tracks)) await this.#load(before);
    const shown = readShown(view, tracks);
    if (!this.#offsets.has(segment.part)) this.#offsets.set(segment.part, segment.at - (shown[0] || 0));
    const offset = this.#offsets.get(segment.part);
    this.#shown.set(segment, tracks.some((track) => track.isPicture) ? shown.map((at) => at + offset) : []);
    // Begun anew, it would want a keyframe; a list that is read again names the same one.
    if (this.#initUsed !== initKey(segment)) { await this.#append(init, offset); this.#initUsed = initKey(segment); }
    await this.#append(view, offset);
    this.#last = segment;
    Object.assign(segment, { isLoaded: true, uncovered: this.#uncovered(segment) });
    await this.#letGo();
    return true;
  }

  async #append(view, offset) {
    await this.#settled();
    this.#buffer.timestampOffset = offset;
    this.#buffer.appendBuffer(view);
    await this.#settled();
    if (this.video.error) throw new Problem(0, { detail: this.video.error.message || "media" });
  }

  async #letGo() {
    const at = this.video.currentTime;
    for (const segment of this.#segments) {
      if (segment.isLoaded && (segment.end < at - KEEP_S || segment.at > at + KEEP_S)) {
        this.#buffer.remove(segment.at, segment.end);
        segment.isLoaded = false;
        await this.#settled();
      }
    }
  }

  #settled() {
    const buffer = this.#buffer;
    return buffer.updating ? new Promise((done) => buffer.addEventListener("updateend", done, { once: true })) : Promise.resolve();
  }

  // Sound that ends a little before its pictures leaves a hole in what is buffered; players would stand in it.
  #overSmallHoles() {
    const { buffered, currentTime, seeking } = this.video;
    for (let number = 0; number < buffered.length; number++) {
      const ahead = buffered.start(number) - currentTime;
      if (ahead > 0 && ahead < 0.5 && !this.holds(currentTime) && !seeking) this.video.currentTime = buffered.start(number) + 0.001;
    }
  }

  async #initOf(segment) {
    const key = initKey(segment);
    if (!this.#inits.has(key)) {
      const view = new DataView(await this.#bytes(segment.init.url, segment.init.first, segment.init.count));
      this.#inits.set(key, { view, tracks: readInit(view) });
    }
    return this.#inits.get(key);
  }

  async #text(url) {
    return (await this.#fetched(url, {})).text();
  }

  async #bytes(url, first, count) {
    return (await this.#fetched(url, count ? { Range: `bytes=${first}-${first + count - 1}` } : {})).arrayBuffer();
  }

  async #fetched(url, headers) {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await fetch(url, { headers, signal: this.#ending.signal });
        if (answer.ok) return answer;
        const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
        if (attempt === TRIES || ![429, 503].includes(answer.status)) throw problem;
      } catch (problem) {
        if (problem instanceof Problem || attempt === TRIES || this.#ending.signal.aborted) throw problem;
      }
      await pause(500 * attempt);
    }
  }
}

const initKey = ({ init }) => `${init.url} ${init.first}`;
const layoutOf = (tracks) => tracks.map((track) => (track.isPicture ? "picture" : "sound")).sort().join("+");
const mimeOf = (tracks) => `${tracks.some((track) => track.isPicture) ? "video" : "audio"}/mp4; codecs="${tracks.map((track) => track.codec).join(", ")}"`;
