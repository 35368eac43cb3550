// Letting others watch: areas are drawn over the panes of a room that is watched as it is, and what they leave is
// shown to people without the right to originals.
//
// Areas are kept in pixels of the picture, whatever size it is shown in. A picture that says that its pixels are
// not square is shown wider than it is, and the areas are of another shape then: it is covered altogether.

import { askJson, byId, guarded, make, notice, word } from "./common.js";

const LEAST_PX = 8;

// Where a picture lies in its pane, and its size.
function placeOf(video) {
  const { videoWidth: width, videoHeight: height, clientWidth, clientHeight } = video;
  const scale = Math.min(clientWidth / width, clientHeight / height);
  return { width, height, scale, left: (clientWidth - width * scale) / 2, top: (clientHeight - height * scale) / 2 };
}

export class LiveMaskTool {
  // wall: whose panes are drawn over; sessionOf: the session that is watched.
  constructor(wall, sessionOf) {
    this.wall = wall;
    this.sessionOf = sessionOf;
    this.areas = new Map();
    this.form = byId("live-mask-form");
    byId("live-mask-box").addEventListener("toggle", () => this.offer());
    this.form.addEventListener("submit", guarded(() => this.set()));
    this.form.addEventListener("click", (event) => {
      const act = event.target.closest("[data-mask]")?.dataset.mask;
      if (act === "clear") this.clear();
      if (act === "lift") guarded(() => this.lift())();
    });
  }

  // Only whoever watches what is recorded, while it is, decides what others see of it.
  show(grant) {
    byId("live-mask-box").hidden = !grant || grant.masked || Boolean(grant.ended_at);
    if (!grant) { byId("live-mask-box").open = false; this.clear(); }
  }

  offer() {
    const isOpen = byId("live-mask-box").open;
    this.wall.root.classList.toggle("drawing", isOpen);
    if (!isOpen) { this.clear(); return; }
    for (const pane of this.wall.panes) {
      const picture = pane.video.parentElement;
      if (picture.querySelector(".mask-glass")) continue;
      picture.append(make("div", { class: "mask-glass", onpointerdown: (event) => this.draw(event, pane, picture) }));
    }
  }

  draw(event, pane, picture) {
    const glass = event.currentTarget, frame = glass.getBoundingClientRect(), at = placeOf(pane.video);
    if (!at.width) return;
    const inside = ({ clientX, clientY }) => [
      Math.min(at.width, Math.max(0, (clientX - frame.left - at.left) / at.scale)),
      Math.min(at.height, Math.max(0, (clientY - frame.top - at.top) / at.scale)),
    ];
    const [x, y] = inside(event), box = make("i", { class: "mask-area" });
    let area = null;
    glass.append(box);
    glass.setPointerCapture(event.pointerId);
    glass.onpointermove = (moved) => {
      const [u, v] = inside(moved);
      area = [Math.floor(Math.min(x, u)), Math.floor(Math.min(y, v)), Math.ceil(Math.max(x, u)), Math.ceil(Math.max(y, v))];
      // In parts of the picture, so that it stays where it is when the page changes its size.
      const part = (length, of) => `${(100 * length) / of}%`;
      const wide = picture.clientWidth, high = picture.clientHeight;
      Object.assign(box.style, {
        left: part(at.left + area[0] * at.scale, wide), top: part(at.top + area[1] * at.scale, high),
        width: part((area[2] - area[0]) * at.scale, wide), height: part((area[3] - area[1]) * at.scale, high),
      });
    };
    glass.onpointerup = glass.onpointercancel = () => {
      glass.onpointermove = glass.onpointerup = glass.onpointercancel = null;
      if (!area || area[2] - area[0] < LEAST_PX || area[3] - area[1] < LEAST_PX) { box.remove(); return; }
      const known = this.areas.get(pane.source.lane);
      this.areas.set(pane.source.lane, { width_px: at.width, height_px: at.height, areas: [...(known?.areas || []), area] });
    };
  }

  clear() {
    this.areas.clear();
    for (const each of this.wall.root.querySelectorAll(".mask-area")) each.remove();
    if (!byId("live-mask-box").open) for (const each of this.wall.root.querySelectorAll(".mask-glass")) each.remove();
  }

  async set() {
    const { statement, heard } = this.form.elements, session = this.sessionOf();
    if (!this.areas.size) { notice(word("liveMaskNone")); return; }
    const streams = Object.fromEntries([...this.areas].map(([name, cover]) => [name, { ...cover, heard: heard.checked }]));
    await askJson("POST", `/api/v1/room-sessions/${session.id}/live-masks`, { streams, statement: statement.value });
    notice(word("liveMaskSet", { room: session.room_name, names: [...this.areas.keys()].join(word("comma")) }));
  }

  async lift() { await liftLiveMask(this.sessionOf(), this.form.elements.statement.value || word("liveMaskLift")); }
}

// Also beside a session that somebody runs without watching it.
export async function liftLiveMask(session, statement) {
  await askJson("POST", `/api/v1/room-sessions/${session.id}/live-masks/lift`, { statement });
  notice(word("liveMaskLifted", { room: session.room_name }));
}
