// Values of runs in plots, and colours by one of them: a scale for numbers, one colour for each text.

import { h, s } from "./dom.js";
import { compareValues, keyOf } from "./rundata.js";
import { ticksOf } from "./scales.js";
import { numberText, shortened, timeText, valueText } from "./format.js";

// Viridis (S. van der Walt, N. Smith): equal steps look equal, also to people who see few colours and on grey paper.
const COLOUR_STOPS = ["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151",
  "#bddf26", "#fde725"];
const COLOUR_NAMES = 8;
const COLOUR_TICKS = 6;
export const COLOUR_DARK = matchMedia("(prefers-color-scheme: dark)");

// Return a value of a column as a number: a time as seconds since 1970. NaN if it is none.
export function numberOf(column, row) {
  const value = column.values[row];
  if (column.type === "time") return Date.parse(value) / 1000;
  return typeof value === "number" ? value : NaN;
}

export function isNumbers(column) {
  return column.type === "number" || column.type === "time";
}

// Return the kind of an axis for a column of numbers or times.
export function axisKind(column) {
  return column.type === "time" ? "time" : "number";
}

// Return a value of a column as the text beside the point that the reader points at.
export function plottedText(column, row) {
  const value = column.values[row];
  return column.type === "time" ? timeText(value) : valueText(value ?? undefined) || "–";
}

// Check whether a logarithmic scale shows these numbers better: all above 0, from one to twenty times as much.
export function isWide(values) {
  const [low, high] = rangeOf(values);
  return low > 0 && high / low >= 20;
}

export function rangeOf(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

// Return the colour of a share from 0 to 1. The end that is hardly seen on the paper, light or dark, is left out.
function colourAt(share) {
  const [first, last] = COLOUR_DARK.matches ? [0.22, 1] : [0, 0.93];
  const place = (first + (last - first) * Math.min(Math.max(share, 0), 1)) * (COLOUR_STOPS.length - 1);
  const index = Math.min(Math.floor(place), COLOUR_STOPS.length - 2);
  const [from, to] = [COLOUR_STOPS[index], COLOUR_STOPS[index + 1]].map(colourParts);
  return `rgb(${from.map((part, at) => Math.round(part + (to[at] - part) * (place - index))).join(" ")})`;
}

function colourParts(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

// Return {of(row) → {fill} or {tint: class}, legend: an element} for a column, or one colour without it.
export function colouring(column, rows) {
  if (!column) return { of: () => ({ tint: "tint-1" }), legend: null };
  return isNumbers(column) ? colourNumbers(column, rows) : colourTexts(column, rows);
}

function colourNumbers(column, rows) {
  const values = rows.map((row) => numberOf(column, row));
  const [low, high] = rangeOf(values);
  const isLog = column.type === "number" && isWide(values);
  const place = (value) => (isLog ? Math.log10(value / low) / Math.log10(high / low) : (value - low) / (high - low || 1));
  const of = (row) => {
    const value = numberOf(column, row);
    return Number.isFinite(value) ? { fill: colourAt(high === low ? 0.5 : place(value)) } : { tint: "tint-none" };
  };
  return { of, legend: Number.isFinite(low) ? colourBar(column, { low, high, isLog, place, values }) : null };
}

function colourBar(column, { low, high, isLog, place, values }) {
  const [width, steps] = [220, 44];
  const bar = Array.from({ length: steps }, (_, index) => {
    const fill = colourAt((index + 0.5) / steps);
    return s("rect", { x: (index * width) / steps, y: 0, width: width / steps + 0.5, height: 10, fill });
  });
  const range = { min: low, max: high, isLog, kind: axisKind(column) };
  const ticks = colourTicks(column, range, values);
  const texts = ticks.map(({ value, text }) => {
    const x = high > low ? place(value) * width : width / 2;
    return s("text", { class: "chart-tick", x, y: 24, "text-anchor": "middle" }, text);
  });
  return h("div", { class: "colour-legend" }, h("span", { class: "faint" }, column.name),
    s("svg", { width: width + 50, height: 28, viewBox: `-25 0 ${width + 50} 28`, role: "img", "aria-label": `Colours of ${column.name}` },
      bar, texts));
}

// Return the ticks of the bar: the values themselves if there are few, and none of their texts lies on another one.
function colourTicks(column, range, values) {
  const text = column.type === "time" ? (value) => timeText(value * 1000) : (value) => numberText(value);
  const own = [...new Set(values.filter(Number.isFinite))].sort((one, other) => one - other);
  if (own.length === 1) return [{ value: own[0], text: text(own[0]) }];
  const fold = (value) => (range.isLog ? Math.log10(value) : value);
  const room = (fold(range.max) - fold(range.min)) / 5;
  const isFew = column.type === "number" && own.length <= COLOUR_TICKS
    && own.every((value, place) => place === 0 || fold(value) - fold(own[place - 1]) >= room * 0.99);
  return isFew ? own.map((value) => ({ value, text: text(value) })) : ticksOf(range, 4);
}

function colourTexts(column, rows) {
  const counts = new Map();
  for (const row of rows) {
    const key = keyOf(column.values[row] ?? null);
    counts.set(key, { value: column.values[row] ?? null, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  const known = [...counts.values()].filter(({ value }) => value !== null).sort((one, other) => compareValues(one.value, other.value));
  const shown = known.slice(0, COLOUR_NAMES);
  const tints = new Map(shown.map(({ value }, index) => [keyOf(value), `tint-${index + 1}`]));
  const items = shown.map(({ value, count }, index) => colourItem(`tint-${index + 1}`, shortened(valueText(value), 30), count));
  const rest = rows.length - shown.reduce((sum, { count }) => sum + count, 0);
  if (rest) items.push(colourItem("tint-none", "Others", rest));
  return {
    of: (row) => ({ tint: tints.get(keyOf(column.values[row] ?? null)) ?? "tint-none" }),
    legend: h("div", { class: "colour-legend" }, h("span", { class: "faint" }, column.name), h("ul", {}, items)),
  };
}

function colourItem(tint, text, count) {
  const point = s("svg", { width: 10, height: 10, viewBox: "0 0 10 10", "aria-hidden": "true" },
    s("circle", { class: `scatter-point ${tint}`, cx: 5, cy: 5, r: 4.5 }));
  return h("li", {}, point, " ", text, h("span", { class: "faint" }, ` ${count}`));
}
