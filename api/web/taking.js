// What is taken away: asked for, waited for, and handed over with its sheet.

import { ask, askJson, byId, lasting, localDay, localTime, make, microsOf, pause, reasonOf, state, word } from "./common.js";

const POLL_MS = 1000;
const ENDINGS = { picture: "png", set: "zip" };

// kind: clip, picture, set, side_by_side or picture_in_picture. path: /clips or /clip-sets.
export async function take(kind, path, body, name) {
  const bar = make("progress", { max: 1000, value: 0, "aria-label": word("kinds")[kind] });
  const told = make("p", { role: "status" }, word("waitingTurn"));
  const entry = make("li", {}, make("p", {}, make("b", { "data-text": `kinds.${kind}` }, word("kinds")[kind]), ` ${name}`), bar, told);
  byId("taken").prepend(entry);
  byId("taken-box").hidden = false;
  const token = state.token;
  try {
    let made = await askJson("POST", `/api/v1${path}`, body);
    const own = `/api/v1${path}/${made.clip_id || made.set_id}`;
    while (made.state === "working") {
      bar.value = made.progress_permille;
      told.textContent = made.progress_permille ? `${word("cutting")} ${Math.round(made.progress_permille / 10)} %` : word("waitingTurn");
      await pause(POLL_MS);
      if (token !== state.token) return;
      made = await askJson("GET", own);
    }
    bar.remove();
    if (made.state === "ready") hand(entry, told, made, own, `${kind}-${(made.clip_id || made.set_id).slice(0, 8)}.${ENDINGS[kind] || "mp4"}`, kind);
    else told.textContent = word(made.state);
  } catch (problem) {
    bar.remove();
    told.textContent = problem.message;
    entry.classList.add("bad");
  }
}

function hand(entry, told, made, own, name, kind) {
  const missing = [
    ...(made.quarantined ? [word("quarantined")] : []),
    ...(made.left_out || []).map((each) => word("leftOut", { count: 1, why: reasonOf(each.why) })),
    ...(made.gaps || []).filter((gap) => gap.lane === null).map((gap) => word("gapIn", { from: shown(gap.starts_at), to: shown(gap.ends_at) })),
    ...(made.unplaced_count ? [word("unplacedIn", { count: made.unplaced_count })] : []),
  ];
  told.replaceChildren(
    make("a", { href: made.file_url, download: name, "data-text": "download" }, word("download")), ` ${(made.size_bytes / 1e6).toFixed(2)} MB `,
    make("button", { type: "button", class: "quiet small", "data-text": "sheetPage", onclick: () => saveSheet(told, own, name, "html") }, word("sheetPage")), " ",
    make("button", { type: "button", class: "quiet small", "data-text": "sheetData", onclick: () => saveSheet(told, own, name, "json") }, word("sheetData")));
  entry.append(...missing.map((text) => make("p", { class: "wait" }, text)), make("p", {}, make("code", {}, `SHA-256 ${made.sha256}`)));
  if (kind === "picture") entry.append(make("img", { src: made.file_url, alt: word("kinds").picture, class: "taken-picture" }));
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
