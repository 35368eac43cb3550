// The reviewer's page: sign in, find a case by number, watch what is masked, take a clip away.
"use strict";

const WORDS = {
  zh: {
    motto: "执法音像记录:按案件编号查找与调阅", signIn: "登录", signOut: "退出", username: "用户名", password: "口令",
    renew: "首次登录,请修改口令", newPassword: "新口令(至少 10 位)",
    agency: "机关代码", agencyHint: "有多家机关时", findCase: "案件", caseNo: "案件编号(任意写法)", purpose: "调阅目的",
    find: "查找", more: "更多", from: "起(秒)", to: "止(秒)", takeClip: "取走片段", wholeFile: "打开整个脱敏文件",
    close: "关闭", apiDocs: "接口说明", watch: "观看脱敏件", none: "没有这个编号的案件", empty: "本案尚无音像记录",
    missing: "缺项", complete: "五要素齐全", open: "未结", closed: "已结", party: "当事人", cause: "案由",
    pendingPlay: "正在脱敏,完成后即可观看", cutting: "正在裁剪…", ready: "片段已就绪,下载(SHA-256 {digest}…)",
    failed: "未能完成,请重试", wrong: "用户名或口令不对", offline: "无法连接服务器", noRight: "此账号的角色不接触影像",
    span: "本案时段", seconds: "秒", until: "授权有效至", comma: "、",
    duties: "本账号可做的事", how: "在服务器上用所列命令,或经接口(见页末“接口说明”)。",
    why: "{roles}不接触影像:管理系统、账号与审计的人不看影像,看影像的人不管这些(A7)。要调阅,请用承办、审核、法制审核或档案人员的账号登录。",
    facts: { case_no: "案件编号", captured_at: "采集时间", captured_place: "采集地点", collector: "采集人", object_of_proof: "证明对象" },
    states: { received: "已接收", verified: "已校验", quarantined: "已隔离", sealed: "已固化", disposed: "已处置",
      unprobed: "待识别", probed: "已识别", rendered: "可播放", unplayable: "无法播放",
      bound: "已关联", suggested: "待确认", unbound: "未关联",
      none: "未脱敏", proposed: "脱敏中", checked: "已脱敏", approved: "已审核", released: "已发布", revoked: "已撤回" },
    purposes: { case_handling: "办案", legal_review: "法制审核", case_file_review: "案卷评查", supervision: "执法监督",
      appraisal: "评议考核", public_opinion: "舆情应对", decision_support: "行政决策", credit: "信用",
      reconsideration: "行政复议", litigation: "行政诉讼", training: "教学" },
    roles: { system_admin: "系统管理员", security_officer: "安全保密员", auditor: "审计员" },
    acts: { manage_devices: "管理设备、采集站、执法人员与上传令牌", manage_accounts: "管理账号与角色", manage_jobs: "查看与重做处理任务",
      manage_alarms: "处理告警", manage_duty: "登记执勤", read_policy: "查看规则", read_custody: "查看保管链",
      report_on_equipment: "装备类报表", report_on_conduct: "执勤与录制类报表", watch_events: "查看实时动态" },
  },
  en: {
    motto: "Enforcement recordings: found and watched by case number", signIn: "Sign in", signOut: "Sign out",
    username: "User name", password: "Password",
    renew: "Choose a password of your own", newPassword: "New password (10 characters or more)", agency: "Agency code", agencyHint: "More than one agency",
    findCase: "Case", caseNo: "Case number, any spelling", purpose: "Purpose", find: "Find", more: "More",
    from: "From (s)", to: "To (s)", takeClip: "Take this clip away", wholeFile: "Open the whole masked file",
    close: "Close", apiDocs: "API", watch: "Watch, masked", none: "No case of that number",
    empty: "No recordings in this case yet", missing: "Missing", complete: "All five facts", open: "Open",
    closed: "Closed", party: "Party", cause: "Cause", pendingPlay: "Being redacted; it can be watched afterwards",
    cutting: "Being cut…", ready: "The clip is ready, download (SHA-256 {digest}…)", failed: "It failed; ask again",
    wrong: "Wrong user name or password", offline: "The server cannot be reached",
    noRight: "This account's role sees no footage", span: "Span of this case", seconds: "s", until: "Granted until", comma: ", ",
    duties: "What this account may do", how: "By the commands named, on the server, or through the API (the link below).",
    why: "The role {roles} sees no footage: who runs the machine, the accounts or the audit does not watch, and who watches does not run them (A7). To watch, sign in as a handler, a reviewer, legal review or the archive.",
    facts: { case_no: "case number", captured_at: "time", captured_place: "place", collector: "collector", object_of_proof: "object of proof" },
    states: {}, purposes: {},
    roles: { system_admin: "system administrator", security_officer: "security officer", auditor: "auditor" },
    acts: { manage_devices: "manage devices, docks, officers and upload tokens", manage_accounts: "manage accounts and roles",
      manage_jobs: "look at jobs and requeue them", manage_alarms: "see to alarms", manage_duty: "enter duty",
      read_policy: "read policies", read_custody: "read the custody log", report_on_equipment: "reports on equipment",
      report_on_conduct: "reports on duty and recording", watch_events: "watch what is going on" },
  },
};

const COMMANDS = {
  manage_devices: "device, dock, officer, token", manage_accounts: "account", manage_jobs: "jobs", manage_alarms: "alarm",
  manage_duty: "duty", read_policy: "policy", read_custody: "custody", report_on_equipment: "report",
  report_on_conduct: "report", watch_events: "watch",
};

const byId = (id) => document.getElementById(id);
const state = {
  token: sessionStorage.getItem("token"), language: localStorage.getItem("language") || "zh",
  case: null, cursor: null, item: null, posters: [], news: null, clip: 0, zone: undefined, me: null,
};
const word = (name) => WORDS[state.language][name];
const stateWord = (name) => word("states")[name] || name;

// -- asking ---------------------------------------------------------------------------------

class Problem extends Error {
  constructor(status, body) { super(body.detail || body.title || String(status)); this.status = status; this.code = body.code; }
}

async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { ...(state.token && { Authorization: `Bearer ${state.token}` }), ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
  } catch { throw new Problem(0, { detail: word("offline") }); }
  if (!answer.ok) {
    const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
    if (answer.status === 401 && state.token) leave();
    throw problem;
  }
  return answer;
}

const askJson = async (...request) => {
  const answer = await ask(...request);
  return answer.status === 204 ? null : answer.json();
};

function notice(text) { byId("notice").textContent = text || ""; }

function guarded(action) {
  return async (event) => {
    event?.preventDefault();
    notice("");
    try { await action(event); } catch (problem) {
      notice(problem.status === 403 && problem.code === "not_permitted" ? word("noRight") : problem.message);
    }
  };
}

// -- building -------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function chip(name) {
  const good = ["verified", "sealed", "rendered", "bound", "checked", "approved", "released"];
  const bad = ["quarantined", "unplayable", "revoked", "disposed"];
  return make("span", { class: `chip ${good.includes(name) ? "good" : bad.includes(name) ? "bad" : "wait"}` }, stateWord(name));
}

const clock = (micros) => {
  const seconds = Math.round(micros / 1e6);
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0")).join(":");
};

// An instant in the agency's zone, which is said: 2026-11-27 08:00:00 +08:00.
function when(text) {
  if (!text) return text;
  const two = "2-digit";
  const written = new Intl.DateTimeFormat("en-GB", {
    timeZone: state.zone, timeZoneName: "longOffset", hourCycle: "h23",
    year: "numeric", month: two, day: two, hour: two, minute: two, second: two,
  }).formatToParts(new Date(text));
  const part = Object.fromEntries(written.map(({ type, value }) => [type, value]));
  const zone = part.timeZoneName.replace("GMT", "") || "+00:00";
  return `${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute}:${part.second} ${zone}`;
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
  if (me.acts.includes("watch_events") && !me.must_change_password) listen();
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
  const number = byId("search").elements.case_no.value;
  const found = (await askJson("GET", `/api/v1/cases?case_no=${encodeURIComponent(number)}`)).items[0];
  state.case = found || null;
  byId("items").replaceChildren();
  byId("more").hidden = true;
  if (!found) { byId("case").replaceChildren(make("p", {}, word("none"))); return; }
  byId("case").replaceChildren(
    make("h3", {}, found.case_no, " ", make("span", { class: `chip ${found.is_open ? "good" : "wait"}` }, word(found.is_open ? "open" : "closed"))),
    make("p", {}, [found.cause && `${word("cause")}: ${found.cause}`, found.party && `${word("party")}: ${found.party}`].filter(Boolean).join(" · ")));
  await list(null);
});

async function list(cursor) {
  const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
  const page = await askJson("GET", `/api/v1/cases/${state.case.id}/items${query}`);
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
  return make("li", { class: "card" }, picture, make("div", {},
    make("h3", {}, item.av_record_no || item.original_name),
    make("p", {}, [when(item.facts.captured_from), item.duration_us && clock(item.duration_us), item.device_no].filter(Boolean).join(" · ")),
    span ? make("p", {}, `${word("span")}: ${clock(span[0])}–${clock(span[1])}`) : null,
    make("div", { class: "chips" }, ...["custody", "media", "binding", "redaction"].map((name) => chip(item.facets[name]))),
    make("p", {}, missing ? `${word("missing")}: ${missing}` : word("complete")),
    ...item.flags.slice(0, 3).map((flag) => make("p", {}, `⚠ ${flag.message}`)),
    make("button", { type: "button", onclick: guarded(() => watch(item)) }, word("watch"))));
}

// -- watching and taking away ---------------------------------------------------------------

async function watch(item) {
  const grant = await askJson("POST", `/api/v1/items/${item.id}/grants`, {
    variant: "redacted", purpose: byId("purpose").value, case_id: state.case.id,
    ...(item.binding.span_us && { span: { from_us: item.binding.span_us[0], to_us: item.binding.span_us[1] } }),
  });
  if (grant.state === "pending") { notice(word("pendingPlay")); return; }
  state.item = item;
  state.clip += 1;
  byId("player-title").textContent = item.av_record_no || item.original_name;
  byId("coverage").textContent = `${grant.coverage[state.language]} · ${word("until")} ${when(grant.expires_at)}`;
  byId("clip-state").replaceChildren();
  const [from, to] = item.binding.span_us || [0, item.duration_us || 0];
  byId("clip").elements.from.value = (Math.ceil(from / 1e5) / 10).toFixed(1);
  byId("clip").elements.to.value = (Math.floor(to / 1e5) / 10).toFixed(1);
  byId("clip").hidden = !grant.playlist_url;
  byId("whole").hidden = !grant.file_url;
  byId("whole").href = grant.file_url || "";
  play(grant);
  byId("player").showModal();
}

function play(grant) {
  const video = byId("video");
  video.hidden = !grant.playlist_url;
  if (!grant.playlist_url) return;
  // Where a browser has no HLS of its own, the fragmented file plays by ranges all the same.
  const native = video.canPlayType("application/vnd.apple.mpegurl");
  video.onerror = () => { video.onerror = null; if (grant.file_url && video.src !== grant.file_url) video.src = grant.file_url; };
  video.src = native || !grant.file_url ? grant.playlist_url : grant.file_url;
}

const takeClip = guarded(async (event) => {
  const fields = event.target.elements;
  const number = (state.clip += 1);
  byId("clip-state").textContent = word("cutting");
  try {
    let clip = await askJson("POST", "/api/v1/clips", {
      case_id: state.case.id, item_id: state.item.id, form: "file", purpose: byId("purpose").value,
      from_ms: Math.round(fields.from.value * 1000), to_ms: Math.round(fields.to.value * 1000),
    });
    while (clip.state === "working" && number === state.clip && byId("player").open) {
      await new Promise((done) => setTimeout(done, 1500));
      clip = await askJson("GET", `/api/v1/clips/${clip.clip_id}`);
      byId("clip-state").textContent = `${word("cutting")} ${Math.round(clip.progress_permille / 10)} %`;
    }
    if (number !== state.clip) return;
    if (clip.state !== "ready") { byId("clip-state").textContent = word("failed"); return; }
    byId("clip-state").replaceChildren(make("a", { href: clip.file_url, download: "" }, word("ready").replace("{digest}", clip.sha256.slice(0, 16))));
  } catch (problem) { byId("clip-state").textContent = problem.message; }
});

// -- live news ------------------------------------------------------------------------------

async function listen() {
  state.news?.abort();
  const news = (state.news = new AbortController());
  let due = null;
  while (state.token && !news.signal.aborted) {
    try {
      const answer = await fetch("/api/v1/events", { headers: { Authorization: `Bearer ${state.token}` }, signal: news.signal });
      if (!answer.ok) return;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        if (/event: (item|case)/.test(value) && state.case && !byId("player").open) {
          clearTimeout(due);
          due = setTimeout(() => { if (state.case && state.token) list(null).catch(() => {}); }, 800);
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
byId("clip").addEventListener("submit", takeClip);
byId("more").addEventListener("click", guarded(() => list(state.cursor)));
byId("close").addEventListener("click", () => byId("player").close());
byId("player").addEventListener("close", () => { const video = byId("video"); video.onerror = null; video.removeAttribute("src"); video.load(); });
byId("sign-out").addEventListener("click", guarded(async () => { await askJson("DELETE", "/api/v1/sessions/current"); leave(); }));
byId("language").addEventListener("click", () => {
  state.language = state.language === "zh" ? "en" : "zh";
  localStorage.setItem("language", state.language);
  translate();
  if (state.case) list(null).catch((problem) => notice(problem.message));
});
translate();
if (state.token) enter().catch(() => leave());
