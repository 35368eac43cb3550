// What a record lacks of the five facts (R6), stated on its card by somebody who may.

import { askJson, guarded, make, state, textOf, word, zoneOffset } from "./common.js";

const FIELDS = ["captured_from", "captured_to", "captured_place", "collector", "object_of_proof"];
const TIMES = new Set(["captured_from", "captured_to"]);
const MOST = { collector: "64" };

// A time as typed is one of the agency's zone.
function instantOf(typed) {
  const told = Date.parse(`${typed}Z`) * 1000;
  return textOf(told - zoneOffset(told));
}

// null where there is nothing to state, or nobody who may. onStated is given the facts as they are then.
export function factsForm(item, onStated) {
  const lacking = FIELDS.filter((name) => !item.facts[name]);
  if (!lacking.length || !state.me?.acts.includes("set_facts")) return null;
  const inputs = new Map(lacking.map((name) => [name, make("input", TIMES.has(name) ? { type: "datetime-local", step: "1" } : { maxlength: MOST[name] || "500" })]));
  const send = guarded(async () => {
    const said = [...inputs].map(([name, input]) => [name, input.value.trim()]).filter(([, value]) => value);
    if (!said.length) { inputs.get(lacking[0]).focus(); throw new Error(word("factsNone")); }
    const body = Object.fromEntries(said.map(([name, value]) => [name, TIMES.has(name) ? instantOf(value) : value]));
    onStated((await askJson("PUT", `/api/v1/items/${item.id}/facts`, body)).facts);
  });
  return make("details", { class: "facts-box" }, make("summary", {}, word("stateFacts")), make("form", { onsubmit: send },
    ...[...inputs].map(([name, input]) => make("label", {}, make("span", {}, word("factFields")[name]), input)),
    make("button", { class: "small" }, word("stateThem"))));
}

// Whether somebody is at it: then the cards stay as they are.
export const isStating = (cards) => [...cards.querySelectorAll(".facts-box[open] input")].some((input) => input.value || input === document.activeElement);
