// A picture with what is hidden outlined over it: the moment shown, masks drawn by their state, boxes drawn and dragged.
//
// The canvas has the pixels of the rendition the plan was made for and lies over the picture as it is shown: whatever
// shape its pixels have, and turned as the file says, an outline is where the mask will be.

import { make, word } from "./common.js";
import { boxAt, covers, microsOfPts, partsOf, shownAt } from "./masks.js";
import { Source } from "./source.js";

const COLOURS = { proposed: "#f5b83d", accepted: "#3ddc84", refused: "#9aa7b4", kept_visible: "#5cb2ff", doubtful: "#ff5a5a" };
const HANDLE_PX = 9;
const LEAST_PX = 4;
const NEAR_S = 1e-4;

export class Stage {
  #watching = null;
  #drag = null;
  #turn = 0;
  #ending = new AbortController();

  plan = null;
  doubtful = new Set();
  selected = null;
  // Where the picture that is shown stands, in the plan's picture times.
  pts = 0;
  isDrawing = false;

  // on: { moment(), select(id), drawn(box), moved(id, box), problem(problem) }
  constructor(root, on) {
    this.root = root;
    this.on = on;
  }

  // grant: of all of the original. A photo is a picture that never moves.
  async open(grant, plan, isPhoto) {
    this.plan = plan;
    this.isPhoto = isPhoto;
    this.pts = plan.picture?.first_pts || 0;
    this.view = isPhoto ? make("img", { src: grant.poster_url, alt: "" }) : make("video", { playsinline: "", "aria-label": word("original") });
    this.canvas = make("canvas", { class: "stage-masks", tabindex: "0", "aria-label": word("redact.canvas"), "aria-describedby": "redact-keys" });
    const signal = this.#ending.signal;
    for (const [name, act] of [["pointerdown", this.#down], ["pointermove", this.#move], ["pointerup", this.#up], ["pointercancel", this.#cancelled]]) this.canvas.addEventListener(name, act.bind(this), { signal });
    this.root.replaceChildren(this.view, this.canvas);
    this.root.classList.toggle("sound", !plan.picture);
    if (plan.picture) [this.canvas.width, this.canvas.height] = [plan.picture.width_px, plan.picture.height_px];
    this.#watching = new ResizeObserver(() => this.#lay());
    this.#watching.observe(this.root);
    for (const name of ["loadedmetadata", "load"]) this.view.addEventListener(name, () => this.#lay(), { signal });
    if (isPhoto) return;
    // While pictures are told one by one, the clock, which runs a little ahead of them, is not asked.
    const isTold = plan.picture && this.view.requestVideoFrameCallback;
    for (const name of ["seeked", "pause", "play", "loadeddata", ...(isTold ? [] : ["timeupdate"])]) this.view.addEventListener(name, () => this.#shown(this.view.currentTime), { signal });
    this.#follow();
    this.player = new Source(this.view, grant.playlist_url, (problem) => this.on.problem(problem));
    this.player.wanted = plan.picture;
    await this.player.open();
    this.#turn = this.player.turnDeg || 0;
    this.#lay();
  }

  close() {
    this.#ending.abort();
    this.#watching?.disconnect();
    this.player?.close();
    this.root.replaceChildren();
  }

  // Each picture as it is put on the screen, where browsers tell.
  #follow() {
    if (!this.view.requestVideoFrameCallback) return;
    this.view.requestVideoFrameCallback((now, { mediaTime }) => {
      if (this.#ending.signal.aborted) return;
      this.#shown(mediaTime);
      this.#follow();
    });
  }

  #shown(positionS) {
    const { picture } = this.plan, clock = this.player?.clockAt(positionS);
    if (clock === null || clock === undefined) return;
    if (!picture) this.pts = Math.round(positionS * 1e6);
    else {
      const at = this.player.picturesNear(positionS).findLast((each) => each <= positionS + 5e-4) ?? positionS;
      const pts = Math.round((clock + at - positionS) * (picture.time_base[1] / picture.time_base[0]));
      this.pts = Math.min(Math.max(pts, picture.first_pts), picture.last_pts);
    }
    this.draw();
    this.on.moment();
  }

  get micros() { return microsOfPts(this.plan.picture, this.pts); }
  get isPlaying() { return Boolean(this.player) && !this.view.paused; }

  play() {
    if (!this.player) return;
    // What is paused before it plays is told as a problem, and is none.
    if (this.view.paused) this.view.play().catch((problem) => { if (problem.name !== "AbortError") this.on.problem(problem); }); else this.view.pause();
  }

  // To a moment of media time, or just into the picture shown then.
  seek(micros) {
    if (!this.player) return;
    this.view.pause();
    this.view.currentTime = Math.min(Math.max(0, micros / 1e6 + NEAR_S), Math.max(0, this.player.lengthS - NEAR_S));
  }

  step(by) {
    if (!this.player) return;
    const now = this.micros / 1e6 + NEAR_S, shown = this.player.picturesNear(now);
    const wanted = shown[shown.findLastIndex((each) => each <= now + NEAR_S) + by];
    this.seek(wanted === undefined ? this.micros + by * 40e3 : wanted * 1e6);
  }

  show(plan, doubtful, selected) {
    Object.assign(this, { plan, doubtful, selected });
    this.draw();
  }

  // -- drawing ------------------------------------------------------------------------------

  // The canvas lies where the picture does inside its frame, whatever is left free beside it.
  #lay() {
    const width = this.view.videoWidth || this.view.naturalWidth, height = this.view.videoHeight || this.view.naturalHeight;
    if (!width || !height || !this.plan.picture) return;
    const frame = this.root.getBoundingClientRect(), scale = Math.min(frame.width / width, frame.height / height);
    const isLying = this.#turn % 180 !== 0, [across, down] = [width * scale, height * scale];
    Object.assign(this.canvas.style, {
      width: `${isLying ? down : across}px`, height: `${isLying ? across : down}px`, left: `${frame.width / 2}px`, top: `${frame.height / 2}px`,
      transform: `translate(-50%, -50%) rotate(${this.#turn}deg)`,
    });
    this.unit = unitOf(this.plan.picture, this.canvas);
    this.draw();
  }

  draw() {
    if (!this.canvas || !this.plan.picture) return;
    const brush = this.canvas.getContext("2d"), { width, height } = this.canvas, { tracks, frames } = shownAt(this.plan, this.pts);
    brush.clearRect(0, 0, width, height);
    for (const span of frames) this.#whole(brush, span);
    for (const track of tracks) if (track.id !== this.selected) this.#outline(brush, track, false);
    const chosen = tracks.find((track) => track.id === this.selected);
    if (chosen) this.#outline(brush, chosen, true);
    if (this.#drag) this.#band(brush, this.#drag.box);
    // What is outlined now, for whoever reads the page by other means than eyes.
    this.canvas.dataset.pts = this.pts;
    this.canvas.dataset.shown = [...frames, ...tracks].map((each) => each.id).join(" ");
  }

  #style(brush, each, isChosen) {
    brush.strokeStyle = COLOURS[this.doubtful.has(each.id) && each.state === "proposed" ? "doubtful" : each.state];
    brush.fillStyle = brush.strokeStyle;
    brush.lineWidth = (isChosen ? 3 : 2) * (this.unit || 1);
    brush.setLineDash(["refused", "kept_visible"].includes(each.state) ? [6 * (this.unit || 1), 4 * (this.unit || 1)] : []);
  }

  #whole(brush, span) {
    this.#style(brush, span, span.id === this.selected);
    const inset = brush.lineWidth / 2;
    brush.strokeRect(inset, inset, this.canvas.width - 2 * inset, this.canvas.height - 2 * inset);
    if (span.state === "refused") return;
    brush.globalAlpha = 0.25;
    brush.fillRect(0, 0, this.canvas.width, this.canvas.height);
    brush.globalAlpha = 1;
  }

  #outline(brush, track, isChosen) {
    this.#style(brush, track, isChosen);
    for (const part of partsOf(track, this.pts, this.plan.picture)) {
      const [x0, y0, x1, y1] = part.box;
      brush.beginPath();
      if (part.shape === "ellipse") brush.ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, 0, 0, 2 * Math.PI);
      else if (part.points) { for (const [x, y] of part.points) brush.lineTo(x / 100, y / 100); brush.closePath(); }
      else brush.rect(x0, y0, x1 - x0, y1 - y0);
      if (track.shape === "all_but") { brush.globalAlpha = 0.3; brush.fill(); brush.globalAlpha = 1; } else brush.stroke();
    }
    const box = boxAt(track, this.pts);
    if (track.shape === "all_but" && box) brush.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    if (isChosen && box) for (const [x, y] of corners(box)) brush.fillRect(x - HANDLE_PX * this.unit / 2, y - HANDLE_PX * this.unit / 2, HANDLE_PX * this.unit, HANDLE_PX * this.unit);
  }

  #band(brush, [x0, y0, x1, y1]) {
    brush.setLineDash([4 * this.unit, 3 * this.unit]);
    brush.strokeStyle = "#fff";
    brush.lineWidth = 2 * this.unit;
    brush.strokeRect(x0, y0, x1 - x0, y1 - y0);
    brush.setLineDash([]);
  }

  // -- dragging -----------------------------------------------------------------------------

  beginDrawing(isDrawing) {
    this.isDrawing = isDrawing;
    this.#drag = null;
    this.canvas.classList.toggle("drawing", isDrawing);
    if (isDrawing) { this.view.pause?.(); this.canvas.focus({ preventScroll: true }); this.root.scrollIntoView({ block: "nearest" }); }
    this.draw();
  }

  // A box in the middle, for who draws without a pointer: its edges are numbers beside the picture.
  drawInMiddle() {
    const { width_px, height_px } = this.plan.picture;
    this.on.drawn([0.4 * width_px, 0.4 * height_px, 0.6 * width_px, 0.6 * height_px].map(Math.round));
  }

  #pointOf({ offsetX, offsetY }) { return [offsetX * this.canvas.width / this.canvas.clientWidth, offsetY * this.canvas.height / this.canvas.clientHeight]; }

  #down(event) {
    if (event.button || !this.plan.picture) return;
    const [x, y] = this.#pointOf(event), reach = HANDLE_PX * this.unit;
    this.view.pause?.();
    if (this.isDrawing) this.#drag = { from: [x, y], box: [x, y, x, y], how: "draw" };
    else {
      const { tracks, frames } = shownAt(this.plan, this.pts);
      const chosen = tracks.find((track) => track.id === this.selected), box = chosen && boxAt(chosen, this.pts);
      const corner = box ? corners(box).findIndex(([cx, cy]) => Math.abs(cx - x) <= reach && Math.abs(cy - y) <= reach) : -1;
      const isIn = ([x0, y0, x1, y1]) => x0 <= x && x < x1 && y0 <= y && y < y1;
      if (corner >= 0) this.#drag = { from: [x, y], box, was: box, id: chosen.id, how: "resize", corner };
      else if (box && isIn(box)) this.#drag = { from: [x, y], box, was: box, id: chosen.id, how: "move" };
      else {
        const size = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
        const hit = tracks.map((track) => ({ id: track.id, at: boxAt(track, this.pts) })).filter(({ at }) => at && isIn(at)).sort((one, other) => size(one.at) - size(other.at))[0];
        this.on.select(hit?.id ?? frames[0]?.id ?? null);
        return;
      }
    }
    this.canvas.setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.#drag) return;
    const drag = this.#drag, [x, y] = this.#pointOf(event), [fromX, fromY] = drag.from;
    if (drag.how === "draw") drag.box = [Math.min(x, fromX), Math.min(y, fromY), Math.max(x, fromX), Math.max(y, fromY)];
    else {
      const by = [x - fromX, y - fromY];
      drag.box = drag.was.map((edge, at) => edge + (drag.how === "move" || CORNER_EDGES[drag.corner].includes(at) ? by[at % 2] : 0));
      const [x0, y0, x1, y1] = drag.box;
      drag.box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
    }
    this.draw();
  }

  #up() {
    const drag = this.#drag;
    this.#drag = null;
    if (!drag) return;
    // Outward, as everywhere: what was drawn is hidden to its last pixel.
    const box = [Math.floor(drag.box[0]), Math.floor(drag.box[1]), Math.ceil(drag.box[2]), Math.ceil(drag.box[3])];
    const { width_px, height_px } = this.plan.picture;
    const meets = box[2] - box[0] >= LEAST_PX && box[3] - box[1] >= LEAST_PX && box[0] < width_px && box[1] < height_px && box[2] > 0 && box[3] > 0;
    if (meets && drag.how === "draw") this.on.drawn([Math.max(0, box[0]), Math.max(0, box[1]), Math.min(width_px, box[2]), Math.min(height_px, box[3])]);
    else if (meets && box.some((edge, at) => edge !== drag.was[at])) this.on.moved(drag.id, box);
    this.draw();
  }

  #cancelled() { this.#drag = null; this.draw(); }

  // What is being dragged stays as it was.
  letGo() {
    const isHeld = Boolean(this.#drag) || this.isDrawing;
    this.beginDrawing(false);
    return isHeld;
  }

  isThere(id) { return Boolean(this.plan.tracks.find((track) => track.id === id && covers(track, this.pts))); }
}

const corners = ([x0, y0, x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
// The edges that go with each corner.
const CORNER_EDGES = [[0, 1], [2, 1], [2, 3], [0, 3]];
// How many pixels of the picture one of the screen is.
const unitOf = (picture, canvas) => Math.max(0.5, picture.width_px / Math.max(1, canvas.clientWidth));
