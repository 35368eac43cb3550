// Lists the operations of the OpenAPI document; nothing is loaded from elsewhere.
"use strict";

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function schemaText(schema, document_, depth = 0) {
  if (!schema) return "";
  if (schema.$ref) return depth > 1 ? schema.$ref.split("/").pop() : schemaText(document_.components.schemas[schema.$ref.split("/").pop()], document_, depth + 1);
  if (schema.anyOf) return schema.anyOf.map((each) => schemaText(each, document_, depth + 1)).join(" | ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `[${schemaText(schema.items, document_, depth + 1)}]`;
  if (schema.properties) {
    const needed = schema.required || [];
    return `{ ${Object.entries(schema.properties).map(([name, value]) => `${name}${needed.includes(name) ? "" : "?"}: ${schemaText(value, document_, depth + 1)}`).join(", ")} }`;
  }
  return schema.format || schema.type || "any";
}

function operation(method, path, found, document_) {
  const details = make("details");
  details.append(make("summary", "", make("code", `${method.toUpperCase()} ${path}`), ` ${found.summary || ""}`));
  details.append(make("p", found.description || ""), make("p", `access: ${found["x-liuhen-access"]}`));
  const rows = (found.parameters || []).map((each) => make("tr", "",
    make("td", "", make("code", each.name)), make("td", each.in), make("td", `${schemaText(each.schema, document_)} ${each.description || each.schema.description || ""}`)));
  if (rows.length) details.append(make("table", "", ...rows));
  for (const [kind, media] of Object.entries(found.requestBody?.content || {})) {
    details.append(make("p", kind), make("p", "", make("code", schemaText(media.schema, document_))));
  }
  for (const [status, answer] of Object.entries(found.responses)) {
    const media = Object.entries(answer.content || {})[0];
    const shown = Number(status) < 300 && media ? ` ${media[0]} ${schemaText(media[1].schema, document_)}` : ` ${answer.description || ""}`;
    details.append(make("p", "", make("code", `${status}${shown}`)));
  }
  return details;
}

async function show() {
  const document_ = await (await fetch("/api/v1/openapi.json")).json();
  const sections = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, found] of Object.entries(methods)) {
      const tag = found.tags?.[0] || "";
      if (!sections.has(tag)) sections.set(tag, make("section", "", make("h2", tag)));
      sections.get(tag).append(operation(method, path, found, document_));
    }
  }
  document.getElementById("operations").replaceChildren(...sections.values());
}

show();
