// What every part of the page shares: who is signed in, asking the API, building elements, times.

import { WORDS } from "./words.js";

export const byId = (id) => document.getElementById(id);
export const state = {
  token: sessionStorage.getItem("token"), language: localStorage.getItem("language") || "zh",
  case: null, cursor: null, item: null, posters: [], news: null, search: null, zone: undefined, me: null,
};
export const word = (name, facts = {}) => {
  const found = name.split(".").reduce((words, part) => words?.[part], WORDS[state.language]);
  return typeof found === "string" ? found.replace(/\{(\w+)\}/g, (whole, fact) => facts[fact] ?? whole) : found;
};

// Why something is not to be had, in words where there are any.
export const reasonOf = (code, otherwise = code) => word("problems")[code] || otherwise;

// -- asking ---------------------------------------------------------------------------------

export class Problem extends Error {
  constructor(status, body) { super(); Object.assign(this, { status, code: body.code, detail: body.detail || body.title || String(status) }); }
  // In the language of whoever reads it now.
  get message() { return reasonOf(this.code, this.detail); }
}

let onSignedOut = () => {};
export const whenSignedOut = (action) => { onSignedOut = action; };

export async function ask(method, path, body, how = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      ...how,
      method,
      headers: { ...(state.token && { Authorization: `Bearer ${state.token}` }), ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
  } catch { throw new Problem(0, { detail: word("offline") }); }
  if (!answer.ok) {
    const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
    if (answer.status === 401 && state.token) onSignedOut();
    throw problem;
  }
  return answer;
}

export const askJson = async (...request) => {
  const answer = await ask(...request);
  return answer.status === 204 ? null : answer.json();
};

// What is asked to be seen: masked, or the original by right and with a reason, which each grant keeps.
export function variantAsked() {
  const { original, reason } = byId("variant").elements;
  if (!original.checked) return { variant: "redacted" };
  if (!reason.value.trim()) { reason.focus(); throw new Error(word("problems").reason_missing); }
  return { variant: "original", reason: reason.value.trim() };
}

export function notice(text) { byId("notice").textContent = text || ""; }

export function guarded(action) {
  return async (event) => {
    event?.preventDefault();
    notice("");
    try { await action(event); } catch (problem) {
      notice(problem.status === 403 && problem.code === "not_permitted" ? word(byId("variant").elements.original.checked ? "noOriginal" : "noRight") : problem.message);
    }
  };
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// -- building -------------------------------------------------------------------------------

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function place(element, left, width) {
  element.style.left = `${left}%`;
  if (width !== undefined) element.style.width = `${width}%`;
  return element;
}

// -- times ----------------------------------------------------------------------------------

export const clock = (micros) => {
  const seconds = Math.round(micros / 1e6);
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0")).join(":");
};

// How long, for people: 0.12 s, 4.0 s, 12:05, 3:02:11, 2 d 01:00:00.
export function lasting(micros) {
  const seconds = micros / 1e6;
  if (seconds < 60) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} ${word("seconds")}`;
  const days = Math.floor(seconds / 86400);
  const rest = clock(micros - days * 86400e6);
  return (days ? word("days", { days }) : "") + (days || !rest.startsWith("00:") ? rest : rest.slice(3));
}

let writer = null;
let writerZone;

// Making a writer costs ten times the writing, and a list of a day has thousands of times.
function partsOf(text) {
  const two = "2-digit";
  if (!writer || writerZone !== state.zone) {
    writerZone = state.zone;
    writer = new Intl.DateTimeFormat("en-GB", {
      timeZone: state.zone, timeZoneName: "longOffset", hourCycle: "h23",
      year: "numeric", month: two, day: two, hour: two, minute: two, second: two,
    });
  }
  return Object.fromEntries(writer.formatToParts(new Date(text)).map(({ type, value }) => [type, value]));
}

// An instant in the agency's zone, which is said: 2026-11-27 08:00:00 +08:00.
export function when(text) {
  if (!text) return text;
  const part = partsOf(text);
  const zone = part.timeZoneName.replace("GMT", "") || "+00:00";
  return `${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute}:${part.second} ${zone}`;
}

// An instant is held as whole microseconds since 1970; a Date would lose the last three digits.
export function microsOf(text) {
  const [, whole, fraction = "", zone] = /^(.{19})(?:\.(\d+))?(.*)$/.exec(text);
  return Date.parse(whole + zone) * 1000 + Number(fraction.slice(0, 6).padEnd(6, "0"));
}

export function textOf(micros) {
  const whole = Math.round(micros), seconds = Math.floor(whole / 1e6);
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(whole - seconds * 1e6).padStart(6, "0")}Z`;
}

// The day, and the time of day, of an instant in the agency's zone.
export function localDay(micros) {
  const part = partsOf(micros / 1000);
  return `${part.year}-${part.month}-${part.day}`;
}

export function localTime(micros, digits = 0) {
  const part = partsOf(Math.floor(micros / 1e6) * 1000);
  const fraction = digits ? `.${String(Math.floor(micros % 1e6)).padStart(6, "0").slice(0, digits)}` : "";
  return `${part.hour}:${part.minute}:${part.second}${fraction}`;
}

export function zoneOffset(micros) {
  const [, sign, hours, minutes] = /GMT([+-])(\d\d):(\d\d)/.exec(partsOf(micros / 1000).timeZoneName) || [null, "+", "0", "0"];
  return (sign === "-" ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60e6;
}
