// The cells of the table: texts whose decimal points stand below each other, times, spans, sizes and statuses.

import { numberText, sizeText, spanText, timeText, valueText } from "./format.js";
import { h } from "./dom.js";

const CELL_DIGIT = "\u2007"; // a space as wide as a digit
const CELL_POINT = "\u2008"; // and one as wide as a point
const CELL_SAMPLE = 400; // rows that decide on widths and decimal places
const CELL_WIDEST = 28; // characters
const CELL_NAME = 25; // characters of a run's name, which says again what the parameters do

// Facts that have a form of their own.
const CELL_FACTS = {
  started: (value) => timeText(value),
  ended: (value) => timeText(value),
  seconds: (value) => spanText(value),
  age: (value) => spanText(value),
  size: (value) => sizeText(value),
};

const CELL_TITLES = { id: "run", seconds: "duration", failure_reason: "failure" };

export function columnTitle(column) {
  return (column.kind === "fact" && CELL_TITLES[column.path]) || column.name;
}

// Return how a column is shown: {text(value), width in characters, isRight}.
export function columnForm(column) {
  const sample = cellSample(column.values);
  const isFact = column.kind === "fact" && Object.hasOwn(CELL_FACTS, column.path);
  let text = isFact ? CELL_FACTS[column.path] : (value) => valueText(value);
  const isNumber = !isFact && sample.length > 0 && sample.every((value) => typeof value === "number");
  if (isNumber) text = cellAligned(sample);
  const shown = (value) => (value === null || value === undefined ? "" : text(value));
  const longest = Math.max(columnTitle(column).length + 2, ...sample.map((value) => shown(value).length));
  const widest = column.path === "id" ? CELL_NAME : CELL_WIDEST;
  const sign = column.path === "status" ? 2 : 0;
  return { text: shown, width: Math.min(longest + sign, widest), isRight: isNumber || (isFact && !column.path.endsWith("ed")) };
}

function cellSample(values) {
  const step = Math.max(1, Math.floor(values.length / CELL_SAMPLE));
  const sample = [];
  for (let row = 0; row < values.length; row += step) {
    if (values[row] !== null && values[row] !== undefined) sample.push(values[row]);
  }
  return sample;
}

// Return a function that fills numbers up with spaces, so that the points of a column stand below each other.
function cellAligned(sample) {
  const places = Math.min(8, Math.max(0, ...sample.map((value) => cellPlaces(numberText(value)))));
  return (value) => {
    if (typeof value !== "number") return valueText(value);
    const text = numberText(value);
    if (!places || text.includes("e") || !Number.isFinite(value)) return text;
    const own = cellPlaces(text);
    return text + (own ? "" : CELL_POINT) + CELL_DIGIT.repeat(Math.max(0, places - own));
  };
}

function cellPlaces(text) {
  return text.includes("e") || !text.includes(".") ? 0 : text.length - text.indexOf(".") - 1;
}

// Return the status of a run as an element: a sign, the word, and the reason as its title.
export function statusCell(data, row) {
  const status = data.fact(row, "status") || "unknown";
  const isCertain = data.fact(row, "certain") !== false;
  const why = data.fact(row, "failure_reason") || data.fact(row, "why");
  return h("span", { class: `state state-${status.replace(/[^a-z]/g, "")}`, title: why || null }, status + (isCertain ? "" : "?"));
}
