// The reviewer's page: sign in, find a case by number, review it, or watch one recording of it.

import { Problem, ask, askJson, byId, clock, guarded, make, notice, state, variantAsked, when, whenSignedOut, word } from "./common.js";
import { factsForm, isStating } from "./facts.js";
import { closeRooms, openRooms, translateRooms } from "./live.js";
import { closeRedaction, isRedacting, mayRedact, openRedaction } from "./redact.js";
import { closeReview, openReview, refreshReview, stopWatching, translateReview } from "./review.js";
import { Source } from "./source.js";
import { take } from "./taking.js";
import { WORDS } from "./words.js";

const COMMANDS = {
  manage_devices: "device, dock, officer, token", see_rooms: "room", read_sessions: "session show, session sheet, session checklist",
  run_sessions: "session start, session stop, session tick, plan", manage_accounts: "account", manage_jobs: "jobs", manage_alarms: "alarm",
  manage_duty: "duty", read_policy: "policy", read_custody: "custody", report_on_equipment: "report",
  report_on_conduct: "report", watch_events: "watch",
};

// Whose originals are theirs alone: which, the server decides with each.
const OWN_ORIGINALS = new Set(["officer", "handler"]);
const stateWord = (name) => word("states")[name] || name;
let player = null;

function chip(name) {
  const good = ["verified", "sealed", "rendered", "bound", "checked", "approved", "released"];
  const bad = ["quarantined", "unplayable", "revoked", "disposed"];
  return make("span", { class: `chip ${good.includes(name) ? "good" : bad.includes(name) ? "bad" : "wait"}` }, stateWord(name));
}

function translate() {
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  byId("language").textContent = state.language === "zh" ? "English" : "中文";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = word(element.dataset.text);
  const chosen = byId("purpose").value || "case_handling";
  byId("purpose").replaceChildren(...Object.keys(WORDS.zh.purposes).map((name) =>
    make("option", { value: name }, word("purposes")[name] || name.replaceAll("_", " "))));
  byId("purpose").value = chosen;
  if (state.me) tellDuties(state.me);
  translateReview();
  translateRooms();
}

// Who may see no footage is shown what the account is for, and why it is not for that.
function tellDuties(me) {
  byId("why").textContent = word("why").replace("{roles}", me.roles.map((name) => word("roles")[name] || name).join(word("comma")));
  byId("acts").replaceChildren(...me.acts.flatMap((act) => [
    make("dt", {}, word("acts")[act] || act),
    make("dd", {}, make("code", {}, COMMANDS[act] ? `liuhen ${COMMANDS[act]}` : "")),
  ]));
}

// -- signing in -----------------------------------------------------------------------------

function leave() {
  state.token = null;
  sessionStorage.removeItem("token");
  state.news?.abort();
  state.case = null;
  showVariant();
  closeReview().catch(() => {});
  closeRedaction(false).catch(() => {});
  closeRooms().catch(() => {});
  show(null);
}

function show(me) {
  const mustChange = Boolean(me?.must_change_password);
  const seesFootage = Boolean(me?.acts.includes("see_redacted"));
  state.me = me;
  byId("door").hidden = Boolean(me);
  byId("renew").hidden = !mustChange;
  byId("desk").hidden = !seesFootage || mustChange;
  byId("duties").hidden = !me || seesFootage || mustChange;
  byId("sign-out").hidden = !me;
  byId("who").textContent = me ? `${me.display_name} · ${me.agency}` : "";
  if (mustChange) byId("change").elements.old.focus();
  else if (seesFootage) byId("search").elements.case_no.focus();
  else if (me) tellDuties(me);
  else { byId("items").replaceChildren(); byId("case").replaceChildren(); if (byId("player").open) byId("player").close(); }
}

async function enter() {
  const me = await askJson("GET", "/api/v1/me");
  state.zone = me.time_zone;
  show(me);
  if (!me.must_change_password) openRooms(me).catch((problem) => notice(problem.message));
}

const changePassword = guarded(async (event) => {
  const fields = event.target.elements;
  await askJson("PUT", "/api/v1/me/password", { old: fields.old.value, new: fields.new.value });
  event.target.reset();
  await enter();
});

const signIn = guarded(async (event) => {
  const fields = event.target.elements;
  const body = { username: fields.username.value, password: fields.password.value };
  if (fields.agency.value) body.agency = fields.agency.value;
  try { state.token = (await askJson("POST", "/api/v1/sessions", body)).token; } catch (problem) {
    throw problem.status === 401 ? new Error(word("wrong")) : problem;
  }
  fields.password.value = "";
  sessionStorage.setItem("token", state.token);
  await enter();
});

// -- a case and its items -------------------------------------------------------------------

const search = guarded(async () => {
  const number = byId("search").elements.case_no.value, { token } = state, turn = (state.search = {});
  const found = (await askJson("GET", `/api/v1/cases?case_no=${encodeURIComponent(number)}`)).items[0];
  if (token !== state.token || turn !== state.search) return;
  state.case = found || null;
  state.news?.abort();
  showVariant();
  byId("items").replaceChildren();
  byId("more").hidden = true;
  if (!found) { byId("case").replaceChildren(make("p", { "data-text": "none" }, word("none"))); await closeReview(); return; }
  showCase();
  if (state.me.acts.includes("watch_events")) listen();
  await Promise.all([list(null), openReview(found)]);
});

// A reason is one of a case: whoever opens another sees what is masked, and may choose anew.
function showVariant() {
  const mayAsk = state.me?.acts.includes("see_original") || state.me?.roles.some((role) => OWN_ORIGINALS.has(role));
  byId("variant").hidden = !state.case || !mayAsk;
  byId("variant").reset();
  chooseVariant();
}

function chooseVariant() {
  const isOriginal = byId("variant").elements.original.checked;
  byId("variant-reason").hidden = !isOriginal;
  if (isOriginal) byId("variant").elements.reason.focus();
  for (const button of document.querySelectorAll(".card button.watch")) button.textContent = word(watchWord());
}

const watchWord = () => (byId("variant").elements.original.checked ? "watchOriginal" : "watch");

function showCase() {
  byId("case").replaceChildren(
    make("h3", {}, state.case.case_no, " ", make("span", { class: `chip ${state.case.is_open ? "good" : "wait"}` }, word(state.case.is_open ? "open" : "closed"))),
    make("p", {}, [state.case.cause && `${word("cause")}: ${state.case.cause}`, state.case.party && `${word("party")}: ${state.case.party}`].filter(Boolean).join(" · ")));
}

async function list(cursor) {
  const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
  const { case: found } = state;
  const page = await askJson("GET", `/api/v1/cases/${found.id}/items${query}`);
  // Another case is open, or nobody is signed in: whoever comes next is shown nothing of this one.
  if (found !== state.case) return;
  if (!cursor) {
    state.posters.splice(0).forEach((url) => URL.revokeObjectURL(url));
    byId("items").replaceChildren();
    if (!page.items.length) byId("items").append(make("li", {}, word("empty")));
  }
  byId("items").append(...page.items.map(card));
  state.cursor = page.next_cursor;
  byId("more").hidden = !page.next_cursor;
}

function card(item) {
  const picture = make("img", { alt: item.av_record_no || item.original_name, loading: "lazy" });
  ask("GET", item.poster_url).then((answer) => answer.blob()).then((blob) => {
    const url = URL.createObjectURL(blob);
    state.posters.push(url);
    picture.src = url;
  }).catch(() => picture.removeAttribute("src"));
  const missing = item.facts.missing.map((name) => word("facts")[name] || name).join(word("comma"));
  const span = item.binding.span_us;
  const form = factsForm(item, (facts) => drawn.replaceWith(card({ ...item, facts })));
  const drawn = make("li", { class: "card" }, picture, make("div", {},
    make("h3", {}, item.av_record_no || item.original_name),
    make("p", {}, [when(item.facts.captured_from), item.duration_us && clock(item.duration_us), item.device_no].filter(Boolean).join(" · ")),
    span ? make("p", {}, `${word("span")}: ${clock(span[0])}–${clock(span[1])}`) : null,
    make("div", { class: "chips" }, ...["custody", "media", "binding", "redaction"].map((name) => chip(item.facets[name]))),
    make("p", {}, missing ? `${word("missing")}: ${missing}` : word("complete")),
    ...item.flags.slice(0, 3).map((flag) => make("p", {}, `⚠ ${flag.message}`)),
    make("div", { class: "row card-acts" },
      make("button", { type: "button", class: "watch", onclick: guarded(() => watch(item)) }, word(watchWord())),
      mayRedact() && item.facets.redaction !== "none" ? make("button", { type: "button", class: "quiet", onclick: () => openRedaction(item, () => (state.case ? list(null) : null)) }, word("redact.title")) : null), form));
  return drawn;
}

// -- watching and taking away ---------------------------------------------------------------

async function watch(item) {
  const { token } = state;
  const grant = await askJson("POST", `/api/v1/items/${item.id}/grants`, {
    ...variantAsked(), purpose: byId("purpose").value, case_id: state.case.id,
    ...(item.binding.span_us && { span: { from_us: item.binding.span_us[0], to_us: item.binding.span_us[1] } }),
  });
  if (token !== state.token) return;
  if (grant.state === "pending") { notice(word(grant.variant === "original" ? "notRendered" : "pendingPlay")); return; }
  state.item = item;
  byId("player-title").textContent = item.av_record_no || item.original_name;
  const shown = grant.variant === "original" ? word("original") : grant.coverage[state.language];
  byId("coverage").textContent = `${shown} · ${word("until")} ${when(grant.expires_at)}`;
  byId("clip-state").replaceChildren();
  const [from, to] = item.binding.span_us || [0, item.duration_us || 0];
  byId("clip").elements.from.value = (Math.ceil(from / 1e5) / 10).toFixed(1);
  byId("clip").elements.to.value = (Math.floor(to / 1e5) / 10).toFixed(1);
  byId("clip").hidden = !grant.playlist_url;
  byId("whole").hidden = !grant.file_url;
  byId("whole").href = grant.file_url || "";
  byId("player").showModal();
  await play(grant);
}

async function play(grant) {
  const video = byId("video");
  video.hidden = !grant.playlist_url;
  if (!grant.playlist_url) return;
  player = new Source(video, grant.playlist_url, (problem) => { byId("clip-state").textContent = problem.message; });
  await player.open();
}

const takeClip = guarded(async (event) => {
  const fields = event.target.elements, asked = variantAsked();
  const [from, to] = [fields.from, fields.to].map((field) => Math.round(field.value * 1000));
  const name = `${byId("player-title").textContent} ${clock(from * 1000)}–${clock(to * 1000)}`;
  byId("player").close();
  const taking = take("clip", "/clips", { ...asked, case_id: state.case.id, item_id: state.item.id, form: "file", purpose: byId("purpose").value, from_ms: from, to_ms: to }, () => name);
  // Its entry stands by now, far above the card that was pressed.
  byId("taken-box").scrollIntoView({ block: "center" });
  await taking;
});

// -- live news ------------------------------------------------------------------------------

async function listen() {
  const { case: open } = state, news = (state.news = new AbortController());
  let due = null;
  const refresh = () => {
    if (state.case !== open || !state.token) return;
    if (isStating(byId("items"))) { due = setTimeout(refresh, 3000); return; }
    Promise.all([list(null), refreshReview()]).catch((problem) => notice(problem.message));
  };
  while (state.token && !news.signal.aborted) {
    try {
      const answer = await fetch(`/api/v1/events?case_id=${open.id}`, { headers: { Authorization: `Bearer ${state.token}` }, signal: news.signal });
      if (!answer.ok) return;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        if (/event: (item|missed)/.test(value) && !byId("player").open && !isRedacting()) {
          clearTimeout(due);
          due = setTimeout(refresh, 800);
        }
      }
    } catch { if (news.signal.aborted) return; }
    await new Promise((done) => setTimeout(done, 3000));
  }
}

// -- start ----------------------------------------------------------------------------------

byId("sign-in").addEventListener("submit", signIn);
byId("change").addEventListener("submit", changePassword);
byId("search").addEventListener("submit", search);
byId("variant").addEventListener("submit", (event) => event.preventDefault());
byId("variant").elements.original.addEventListener("change", guarded(async () => { chooseVariant(); await stopWatching(); }));
byId("clip").addEventListener("submit", takeClip);
byId("video").addEventListener("captions-missing", ({ detail }) => { byId("clip-state").textContent = detail.message; });
byId("more").addEventListener("click", guarded(() => list(state.cursor)));
byId("close").addEventListener("click", () => byId("player").close());
byId("player").addEventListener("close", () => { player?.close(); player = null; });
byId("sign-out").addEventListener("click", guarded(async () => { await closeReview(); await closeRooms(); await askJson("DELETE", "/api/v1/sessions/current"); leave(); }));
byId("language").addEventListener("click", () => {
  state.language = state.language === "zh" ? "en" : "zh";
  localStorage.setItem("language", state.language);
  notice("");
  translate();
  if (state.case) showCase();
  if (state.case) list(null).catch((problem) => notice(problem.message));
});
whenSignedOut(leave);
translate();
if (state.token) enter().catch(() => leave());
