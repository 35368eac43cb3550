"use strict";

const EVERY_MS = 1000;
const WORDS = {
  unplug: { zh: "可以拔出", en: "Safe to unplug" },
  keep: { zh: "请勿拔出", en: "Do not unplug" },
  erasable: { zh: "全部文件已有回执", en: "Every file has its receipt" },
  unerasable: { zh: "请勿清空:还有文件没有回执", en: "Do not erase: files are left without a receipt" },
  lost: { zh: "采集程序没有应答,显示的是最后一次的状态", en: "The agent does not answer; this is what it said last" },
  rate: { zh: "速度", en: "Rate" },
  limit: { zh: "本时段限速", en: "Limit at this hour" },
  paused: { zh: "本时段暂停", en: "Paused at this hour" },
  officer: { zh: "人员", en: "Officer" },
  files: { zh: "文件", en: "files" },
  receipts: { zh: "回执", en: "receipts" },
  freed: { zh: "已清理", en: "freed" },
  clock: { zh: "设备时钟偏差", en: "Clock offset" },
  battery: { zh: "电量", en: "Battery" },
  progress: { zh: "上传进度", en: "Upload progress" },
};

let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
let seen = null;

const word = (key) => WORDS[key][language];
const mib = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`;

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  // Names come from cards: text, never markup.
  if (text !== undefined) element.textContent = text;
  return element;
}

function sign(camera) {
  return made("p", `sign ${camera.may_unplug ? "go" : "stop"}`, word(camera.may_unplug ? "unplug" : "keep"));
}

function erasing(camera) {
  if (!camera.files_total) return null;
  return made("p", `sign ${camera.all_receipted ? "go" : "wait"}`, word(camera.all_receipted ? "erasable" : "unerasable"));
}

function problemList(camera) {
  if (!camera.problems.length) return null;
  const list = made("ul", "problems");
  for (const problem of camera.problems) {
    const line = made("li", problem.is_note ? "note" : "");
    line.append(made("strong", "", problem[language] + (problem.file ? ` · ${problem.file}` : "")));
    line.append(made("span", "", problem[`do_${language}`]));
    line.title = problem.detail;
    list.append(line);
  }
  return list;
}

function facts(camera) {
  const parts = [
    `${camera.files_sent}/${camera.files_total} ${word("files")}`,
    `${word("receipts")} ${camera.files_receipted}`,
  ];
  if (camera.files_freed) parts.push(`${word("freed")} ${camera.files_freed}`);
  if (camera.clock_offset_s !== null) parts.push(`${word("clock")} ${camera.clock_offset_s.toFixed(1)} s`);
  if (camera.battery_percent !== null) parts.push(`${word("battery")} ${camera.battery_percent} %`);
  return made("p", "small", parts.join(" · "));
}

function card(camera) {
  const article = made("article");
  const who = made("div", "who");
  who.append(made("h2", "", camera.device_no || camera.label || camera.name));
  if (camera.officer_no) who.append(made("span", "", `${word("officer")} ${camera.officer_no}`));
  const bar = made("progress");
  bar.max = Math.max(1, camera.bytes_total);
  bar.value = camera.bytes_total
    ? camera.bytes_sent + (camera.current_file === null ? 0 : camera.current_sent_bytes)
    : camera.state === "done" ? 1 : 0;
  bar.setAttribute("aria-label", word("progress"));
  const parts = [who, made("p", "", camera[`state_${language}`]), sign(camera), erasing(camera), bar, facts(camera)];
  if (camera.current_file !== null) {
    parts.push(made("p", "small", `${camera.current_file} · ${mib(camera.current_sent_bytes)} / ${mib(camera.current_size_bytes)}`));
  }
  parts.push(problemList(camera));
  article.append(...parts.filter((part) => part !== null));
  return article;
}

function say(banner, text) {
  banner.hidden = !text;
  if (text && banner.textContent !== text) banner.textContent = text;
}

function draw(answers) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.getElementById("language").textContent = language === "zh" ? "English" : "中文";
  for (const element of document.querySelectorAll("[data-zh]")) element.textContent = element.dataset[language];
  const banner = document.getElementById("banner");
  if (seen === null) return say(banner, answers ? "" : word("lost"));
  const problem = seen.server;
  say(banner, !answers ? word("lost") : problem ? `${problem[language]} · ${problem[`do_${language}`]}` : "");
  const line = [new Date(seen.at).toLocaleString(language === "zh" ? "zh-CN" : "en"), `${word("rate")} ${mib(seen.rate_bytes_per_s)}/s`];
  if (seen.limit_bytes_per_s === 0) line.push(word("paused"));
  else if (seen.limit_bytes_per_s !== null) line.push(`${word("limit")} ${mib(seen.limit_bytes_per_s)}/s`);
  document.getElementById("facts").textContent = line.join(" · ");
  document.getElementById("cameras").replaceChildren(...seen.cameras.map(card));
  document.getElementById("empty").hidden = seen.cameras.length > 0;
  document.getElementById("others").hidden = seen.ignored.length === 0;
  document.getElementById("ignored").replaceChildren(
    ...seen.ignored.map((volume) => made("li", "", `${volume.root} ${volume.label}`)),
  );
}

async function look() {
  let answers = true;
  try {
    const answer = await fetch("/state.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    seen = await answer.json();
  } catch {
    answers = false;
  }
  draw(answers);
  setTimeout(look, EVERY_MS);
}

document.getElementById("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  draw(true);
});
look();
