// Previews of files: pictures, texts, JSON, tables, arrays, and facts about others.

import { append, h, replace } from "./dom.js";
import { counted, numberText, sizeText, valueText } from "./format.js";
import { patiently, SOURCE_SILENT } from "./source.js";
import { longList, scrolledTable, valueCell } from "./values.js";

const PREVIEW_CHILDREN = 100;
const PREVIEW_OPEN = 20; // values of an object that is open at first
const PREVIEW_STATISTICS = [
  ["min", "Minimum"], ["max", "Maximum"], ["mean", "Mean"], ["std", "Standard deviation"], ["nan", "NaN"], ["inf", "Infinite"],
];
const PREVIEW_COUNTS = new Set(["nan", "inf"]); // shown if there are any

// Return the elements that show a file, as `source.file` returned it.
function previewOf(file) {
  const parts = [];
  if (file.image) parts.push(previewImage(file.image, file.key));
  if (file.array) parts.push(previewArray(file.array));
  if (file.members) parts.push(previewMembers(file.members));
  if (file.table) parts.push(previewTable(file.table, file.key));
  if (file.json !== undefined) parts.push(h("div", { class: "json" }, previewJson(file.json)));
  else if (typeof file.text === "string") parts.push(previewText(file));
  if (file.facts?.length) parts.push(h("pre", { class: "code", tabindex: "0", "aria-label": "Facts" }, file.facts.join("\n")));
  if (file.left_out) parts.push(h("p", { class: "left-out" }, file.left_out));
  if (!parts.length) parts.push(h("p", { class: "faint" }, "There is no preview of this kind of file."));
  return parts;
}

export function previewImage(address, key) {
  return h("img", { class: "picture", src: address, alt: `Picture ${key}` });
}

function previewText({ key, text, truncated, size }) {
  if (text === "") return h("p", { class: "faint" }, "The file is empty.");
  return [
    truncated && h("p", { class: "faint" }, `The beginning of ${sizeText(size ?? text.length)}`),
    h("pre", { class: "code is-text", tabindex: "0", "aria-label": `Text of ${key}` }, text),
  ];
}

// Return a JSON value as nested parts that open on request, so that a large one costs little.
function previewJson(value, name = null) {
  const label = name === null ? null : [h("span", { class: "json-name" }, name), ": "];
  if (value === null || typeof value !== "object") return h("div", { class: "json-leaf" }, label, previewLeaf(value));
  const entries = Object.entries(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!entries.length) return h("div", { class: "json-leaf" }, label, open + close);
  const body = h("div", { class: "json-children" });
  const details = h("details", {
    ontoggle: () => { if (details.open && !body.firstChild) previewChildren(body, entries, 0); },
  }, h("summary", {}, label, `${open}${counted(entries.length, "value")}${close}`), body);
  details.open = entries.length <= PREVIEW_OPEN || name === null;
  return details;
}

function previewChildren(body, entries, from) {
  const until = from + PREVIEW_CHILDREN;
  append(body, entries.slice(from, until).map(([name, value]) => previewJson(value, name)));
  const left = entries.length - until;
  if (left <= 0) return;
  const more = h("button", {
    type: "button",
    onclick: () => { more.remove(); previewChildren(body, entries, until); },
  }, `Show more of the remaining ${left}`);
  body.append(more);
}

function previewLeaf(value) {
  if (typeof value === "string") return h("span", { class: "json-text" }, JSON.stringify(value));
  return h("span", { class: "json-value" }, String(value));
}

function previewTable({ columns = [], rows = [], total }, key) {
  const numeric = columns.map((_, place) => rows.some((row) => typeof row[place] === "number")
    && rows.every((row) => typeof row[place] === "number" || row[place] === null || row[place] === undefined));
  const cell = (value, place) => (value === null || value === undefined ? h("td", {})
    : valueCell(value, { class: numeric[place] ? "number" : "" }));
  const row = (values) => h("tr", {}, columns.map((_, place) => cell(values[place], place)));
  const list = longList(rows, row, { tag: "tbody", label: key, span: columns.length });
  const titles = columns.map((name, place) => h("th", { scope: "col", class: numeric[place] ? "number" : "" }, name));
  return [
    h("p", { class: "faint" }, previewRows(rows.length, total), `, ${counted(columns.length, "column")}`),
    scrolledTable(`First rows of ${key}`, titles, list.body),
  ];
}

// The number of rows of a table is null if only its beginning was read.
function previewRows(shown, total) {
  if (typeof total !== "number") return `The first ${counted(shown, "row")}`;
  return total > shown ? `${shown} of ${numberText(total)} rows` : counted(shown, "row");
}

function previewArray(array) {
  const shape = previewShape(array.shape);
  const facts = [["Shape", shape], ["Type", array.dtype]];
  for (const [name, title] of PREVIEW_STATISTICS) {
    if (array[name] !== undefined && array[name] !== null && !(PREVIEW_COUNTS.has(name) && !array[name])) facts.push([title, array[name]]);
  }
  return [
    h("dl", { class: "facts" }, facts.filter(([, value]) => value !== undefined && value !== "").map(([name, value]) =>
      h("div", {}, h("dt", {}, name),
        h("dd", { class: "tabular", title: typeof value === "number" ? String(value) : null }, valueText(value, 6))))),
    array.fields && h("p", {}, h("span", { class: "faint" }, "Fields "),
      Object.entries(array.fields).map(([name, type]) => `${name}: ${type}`).join(", ")),
    array.image && previewArrayImage(array, shape),
    array.head?.length > 0 && h("p", { class: "head-values" }, h("span", { class: "faint" }, "First values "),
      h("span", { class: "mono" }, array.head.map((value) => valueText(value, 6)).join("  "))),
    array.facts?.length > 0 && h("pre", { class: "code", tabindex: "0", "aria-label": "Facts" }, array.facts.join("\n")),
  ];
}

function previewArrayImage(array, shape) {
  const range = [array.min, array.max].every((value) => value !== undefined && value !== null)
    ? `from ${valueText(array.min)} to ${valueText(array.max)}` : "";
  return h("figure", { class: "array-image" },
    h("img", { src: array.image, alt: `Values of the array ${shape} as an image`, class: "pixels" }),
    range && h("figcaption", { class: "faint" }, `Values ${range}`));
}

function previewShape(shape) {
  if (!Array.isArray(shape)) return shape === undefined ? "" : String(shape);
  return shape.length ? shape.map((size) => numberText(size)).join(" × ") : "One value";
}

function previewMembers(members) {
  const entries = Array.isArray(members) ? members.map((member, place) => [member.name ?? member.key ?? String(place), member])
    : Object.entries(members);
  return entries.map(([name, member]) => h("details", { open: entries.length <= 3 },
    h("summary", {}, h("span", { class: "mono" }, name), ` ${previewShape(member.shape)} ${member.dtype ?? ""}`),
    typeof member === "object" ? previewArray(member) : valueText(member)));
}

// Fill an element with the preview of a file, once it is there. A later call for the same element wins.
export async function showPreview(element, page, id, key) {
  element.dataset.key = key;
  replace(element, h("p", { class: "faint" }, "Reading…"));
  let parts;
  try {
    const silent = () => element.dataset.key === key && replace(element, h("p", { class: "is-error" }, SOURCE_SILENT));
    parts = previewOf(await patiently(page.source.file(id, key), silent));
  } catch (error) {
    parts = h("p", { class: "is-error" }, error.message);
  }
  if (element.dataset.key === key) replace(element, parts);
}
