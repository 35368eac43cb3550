// What is taken away: asked for, waited for, and handed over with its sheet.

import { ask, askJson, byId, lasting, localDay, localTime, make, microsOf, pause, reasonOf, state, word } from "./common.js";

const POLL_MS = 1000;
let number = 0;
const ENDINGS = { picture: "png", set: "zip" };

const asked = new Set();
const written = new Map();

// An element whose text is said anew when the language is another.
function saying(element, text) {
  written.set(element, text);
  element.textContent = text();
  return element;
}

export function translateTaken() {
  for (const [element, text] of written) {
    if (element.isConnected) element.textContent = text();
    else written.delete(element);
  }
}

// kind: clip, picture, set, side_by_side or picture_in_picture. path: /clips or /clip-sets. name: a function.
// Each is a leaf in custody: while it is made, the same is not asked for again.
export async function take(kind, path, body, name) {
  const wanted = JSON.stringify([kind, body]);
  if (asked.has(wanted)) return;
  asked.add(wanted);
  try { await taking(kind, path, body, name); } finally { asked.delete(wanted); }
}

async function taking(kind, path, body, name) {
  const title = saying(make("b", { id: `taken-${++number}` }), () => word("kinds")[kind]);
  const bar = make("progress", { max: 1000, value: 0, "aria-labelledby": title.id });
  const told = saying(make("p", { role: "status" }), () => word("waitingTurn"));
  const entry = make("li", {}, make("p", {}, title, " ", saying(make("span"), name)), bar, told);
  byId("taken").prepend(entry);
  byId("taken-box").hidden = false;
  try {
    let made = await askJson("POST", `/api/v1${path}`, body);
    const own = `/api/v1${path}/${made.clip_id || made.set_id}`;
    while (made.state === "working") {
      const permille = (bar.value = made.progress_permille);
      saying(told, () => (permille ? `${word("cutting")} ${Math.round(permille / 10)} %` : word("waitingTurn")));
      await pause(POLL_MS);
      // Another case is open, or nobody is signed in.
      if (!entry.isConnected) return;
      made = await askJson("GET", own);
    }
    bar.remove();
    if (made.state === "ready") hand(entry, told, made, own, `${kind}-${(made.clip_id || made.set_id).slice(0, 8)}.${ENDINGS[kind] || "mp4"}`, kind);
    else saying(told, () => word(made.state));
  } catch (problem) {
    bar.remove();
    saying(told, () => problem.message);
    entry.classList.add("bad");
  }
}

function hand(entry, told, made, own, name, kind) {
  written.delete(told);
  const missing = () => [
    ...(made.quarantined ? [word("quarantined")] : []),
    ...(made.left_out || []).map((each) => word("leftOut", { count: 1, why: reasonOf(each.why) })),
    ...(made.gaps || []).filter((gap) => gap.lane === null).map((gap) => word("gapIn", { from: shown(gap.starts_at), to: shown(gap.ends_at) })),
    ...(made.unplaced_count ? [word("unplacedIn", { count: made.unplaced_count })] : []),
  ];
  told.replaceChildren(
    saying(make("a", { href: made.file_url, download: name }), () => word("download")), ` ${(made.size_bytes / 1e6).toFixed(2)} MB `,
    saying(make("button", { type: "button", class: "quiet small", onclick: () => saveSheet(told, own, name, "html") }), () => word("sheetPage")), " ",
    saying(make("button", { type: "button", class: "quiet small", onclick: () => saveSheet(told, own, name, "json") }), () => word("sheetData")));
  entry.append(...missing().map((_, at) => saying(make("p", { class: "wait" }), () => missing()[at])), make("p", {}, make("code", {}, `SHA-256 ${made.sha256}`)));
  if (kind === "picture") entry.append(make("img", { src: made.file_url, alt: "", class: "taken-picture" }));
}

const shown = (text) => localTime(microsOf(text), 1);

// The sheet needs the session, so it is fetched and handed to the browser as a file.
async function saveSheet(told, own, name, form) {
  try {
    const body = await (await ask("GET", `${own}/sheet?form=${form}`)).blob();
    const url = URL.createObjectURL(body);
    make("a", { href: url, download: `${name}.sheet.${form}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (problem) { told.append(` ${problem.message}`); }
}

export const spanName = (from, to) => `${localDay(from)} ${localTime(from, 1)} – ${localTime(to, 1)} (${lasting(to - from)})`;
