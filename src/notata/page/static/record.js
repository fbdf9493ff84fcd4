// One run as a whole: what the source has of it, or else its row in the table. And lists of runs to choose from.

import { h, replace } from "./dom.js";
import { counted, shortened } from "./format.js";
import { entryText } from "./curvedata.js";
import { labelsOf } from "./rundata.js";
import { patiently } from "./source.js";
import { currentState, listOf } from "./state.js";

const RECORD_CHOICES = 200; // runs in a list at once

// Return the record of a run. Without one, its row in the table, with the reason as `partial`. Missing parts are empty.
// `tell` is called if the source takes long.
export async function recordOf(page, id, tell) {
  let found;
  try {
    found = await patiently(page.source.run(id), tell);
  } catch (error) {
    found = { ...recordOfRow(page.data, page.data.rowOf.get(id)), partial: error.message };
  }
  const empty = { facts: {}, params: {}, metrics: {}, fields: {}, environment: {}, series: {} };
  const lists = { caught: [], resumes: [], workers: [], files: [], problems: [] };
  const given = Object.entries(found ?? {}).filter(([, value]) => value !== null && value !== undefined);
  return { id, ...empty, ...lists, ...Object.fromEntries(given) };
}

function recordOfRow(data, row) {
  const [facts, params, metrics] = [0, 1, 2].map(() => Object.create(null)); // a parameter may be called "__proto__"
  const record = { facts, params, metrics };
  if (row === undefined) return record;
  const parts = { fact: facts, param: params, metric: metrics };
  for (const column of data.columns) {
    const value = column.values[row];
    if (value === null || value === undefined || !Object.hasOwn(parts, column.kind)) continue;
    parts[column.kind][column.path.replace(/^(params|metrics)\./, "")] = value;
  }
  return { ...record, id: data.ids[row], name: record.facts.name, url: record.facts.url };
}

// Return a text filter with a list of runs; `show` makes an entry of a row and its text. Selected runs come first.
export function runFinder(page, { without = [], label, show, tag = "ul" }) {
  const list = h(tag, { class: "run-choices" });
  const note = h("p", { class: "faint" });
  const selected = listOf(currentState().options.sel).map((id) => page.data.rowOf.get(id)).filter((row) => row !== undefined);
  const rows = [...new Set([...selected, ...page.data.ids.keys()])].filter((row) => !without.includes(page.data.ids[row]));
  const texts = recordTexts(page.data);
  const fill = (text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const isFound = (row) => words.every((word) => `${texts.get(row)} ${page.data.ids[row]}`.toLowerCase().includes(word));
    const found = rows.filter(isFound);
    replace(list, found.slice(0, RECORD_CHOICES).map((row) => show(row, shortened(texts.get(row), 100))));
    const isCut = found.length > RECORD_CHOICES;
    note.textContent = isCut ? `${RECORD_CHOICES} of ${counted(found.length, "run")}` : found.length ? "" : "No run matches.";
  };
  fill("");
  const input = h("input", {
    type: "search", placeholder: "Filter by name", "aria-label": `Filter: ${label}`, oninput: (event) => fill(event.target.value),
  });
  return { input, list, note };
}

// Return a text for each row: the parameters that differ, as in the legend, and the short name.
function recordTexts(data) {
  const labels = labelsOf(data, [...data.ids.keys()]);
  return new Map(labels.map(({ row, name, parts }) =>
    [row, parts.length ? `${entryText({ parts, name, rows: [row] })} · ${name}` : name]));
}

// Return a text filter and a select of runs; `chosen` is called with the id.
export function runSelect(page, { label, id, chosen }) {
  const option = (row, text) => h("option", { value: page.data.ids[row], selected: page.data.ids[row] === id }, text);
  const { input, list, note } = runFinder(page, { label, show: option, tag: "select" });
  if (id && list.value !== id) list.prepend(option(page.data.rowOf.get(id), id));
  list.setAttribute("aria-label", label);
  list.addEventListener("change", () => chosen(list.value));
  input.addEventListener("input", () => chosen(list.value));
  return { element: h("div", { class: "run-select" }, h("span", {}, label), input, list, note), value: () => list.value };
}
