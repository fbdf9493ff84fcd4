// One column of a series on a large chart, and below it its values as a table.

import { h, replace } from "./dom.js";
import { counted, numberText, shortened } from "./format.js";
import { linkTo, setOptions } from "./state.js";
import { swatch } from "./swatch.js";
import { LineChart } from "./chart.js";
import { ColumnData, CURVE_AXES, curveEntries, curveOptions, entryText, zoomOptions } from "./curvedata.js";
import { indexesBetween, statsBetween } from "./lines.js";
import { axisText } from "./scales.js";
import { CurveControls } from "./curvecontrols.js";
import { chartOptions, CurveWatch, showThinned } from "./curves.js";
import { selectedRows } from "./table.js";
import { compareValues } from "./rundata.js";

const CURVE_MOVES = [
  ["in", "+", "Zoom in"], ["out", "\u2212", "Zoom out"], ["left", "←", "Move left"], ["right", "→", "Move right"],
  ["all", "Show everything", "Show everything"],
];
const CURVE_ROWS = 200;
const CURVE_CUT = "The curve is thinned: there are at least as many rows here.";

export function curveView(page, [series, column]) {
  return new CurveView(page, series, column);
}

class CurveView {
  constructor(page, series, column) {
    Object.assign(this, { page, series, column, title: column, sort: { name: "", isReverse: false } });
    this.data = new ColumnData(page, column);
    this.controls = new CurveControls(page, { isLarge: true });
    this.chart = new LineChart({
      height: Math.max(260, Math.min(520, innerHeight - 330)), isLarge: true,
      nameOf: (line) => entryText(this.entries[line.index]),
      onPoint: (point) => this.markRow(point ? point.line.index : null),
      onZoom: (from, to) => setOptions(zoomOptions(from, to), { replaces: true }),
    });
    this.chart.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.note = h("span", { class: "curve-note" });
    this.problems = h("p", { class: "curve-problems" });
    this.table = h("div", { class: "curve-table" });
    this.copied = h("span", { class: "faint", role: "status" });
    this.element = h("div", { class: "curve-view" },
      this.heading(), this.controls.element, this.chart.element, this.problems,
      h("div", { class: "toolbar" }, this.caption = h("h3", {}), h("button", { onclick: () => this.copy() }, "Copy as CSV"), this.copied),
      this.table);
    this.watch = new CurveWatch(page, (ids) => this.read(ids));
    this.update();
  }

  heading() {
    this.back = h("a", {});
    const moves = CURVE_MOVES.map(([move, text, name]) =>
      h("button", { title: name, "aria-label": name, onclick: () => this.chart.go(move) }, text));
    return h("div", { class: "curve-heading" },
      h("p", {}, this.back), h("h2", {}, this.column, " ", h("span", { class: "faint" }, this.series)), this.note,
      h("div", { class: "toolbar", role: "group", "aria-label": "Zoom" }, moves));
  }

  update() {
    const rows = selectedRows(this.page);
    this.rows = rows;
    this.options = { ...curveOptions(this.page, rows), series: this.series };
    this.entries = curveEntries(this.page, rows, this.options);
    this.controls.update({ ...this.options, names: [] }, rows);
    replace(this.back, "← All curves");
    this.back.href = linkTo("runs", [], { series: this.series });
    this.watch.update(this.series, rows);
    this.read();
    this.draw();
  }

  read(again = []) {
    this.data.read(this.options, this.rows, () => this.draw(), again);
  }

  draw() {
    const note = this.rows.length === 0 ? "No run is selected" : this.data.error;
    this.lines = this.data.drawn(this.entries, this.options);
    this.chart.show(this.lines, { ...chartOptions(this.options), title: this.column, note, isLoading: this.data.isReading });
    showThinned(this.note, this.lines);
    this.problems.textContent = this.data.problems.join(" ");
    this.showTable();
  }

  // The wheel alone scrolls the page; with Ctrl or Shift it zooms about the pointer.
  wheel(event) {
    const { view } = this.chart;
    if (!(event.ctrlKey || event.shiftKey) || !view) return;
    event.preventDefault();
    const x = event.clientX - this.chart.element.getBoundingClientRect().left;
    const about = Math.min(Math.max((x - view.left) / (view.right - view.left), 0), 1);
    this.chart.go((event.deltaY || event.deltaX) < 0 ? "in" : "out", about);
  }

  showTable() {
    const columns = [["", "Curve"], ["first", "First"], ["last", "Last"], ["min", "Smallest"], ["max", "Largest"]];
    const isMean = this.options.group.length > 0;
    if (!isMean) columns.push(["rows", "Rows"]);
    const focused = document.activeElement?.dataset?.sort;
    const { from, to, x } = this.options;
    const range = { min: from, max: to, kind: CURVE_AXES[x] };
    const within = from === undefined ? "" : ` from ${axisText(from, range)} to ${axisText(to, range)}`;
    const values = `${isMean ? "Means" : "Values"} of each ${isMean ? "group" : "curve"}`;
    this.caption.textContent = `${values}${this.options.smooth ? ", smoothed" : ""}${within}`;
    const lines = this.sorted();
    const sortable = ([name, text]) => {
      const isSorted = this.sort.name === name && name !== "";
      const order = isSorted ? (this.sort.isReverse ? "descending" : "ascending") : null;
      return h("th", { class: name ? "number" : "", scope: "col", "aria-sort": order },
        name ? h("button", { class: "plain", "data-sort": name, onclick: () => this.sortBy(name) }, text) : text);
    };
    this.tableRows = new Map();
    replace(this.table, h("table", {},
      h("thead", {}, h("tr", {}, columns.map(sortable))),
      h("tbody", {}, lines.slice(0, CURVE_ROWS).map((line) => this.tableRow(line)))),
    lines.length > CURVE_ROWS && h("p", { class: "faint" }, `and ${counted(lines.length - CURVE_ROWS, "more curve")}; the copy has all`));
    if (focused) [...this.table.querySelectorAll("[data-sort]")].find((button) => button.dataset.sort === focused)?.focus();
  }

  tableRow(line) {
    const entry = this.entries[line.index];
    const text = shortened(entryText(entry), 90) + (line.rank ? ` (rank ${line.rank})` : "");
    const address = entry.rows.length === 1 && linkTo("run", [this.page.data.ids[entry.rows[0]]]);
    const name = address ? h("a", { href: address, title: entry.name }, text) : text;
    const isShown = (key) => Number.isFinite(line[key]) || (key === "last" && hasLast(line));
    const value = (key) => (isShown(key) ? numberText(line[key], 6) : "–");
    const row = h("tr", { onmouseenter: () => this.chart.emphasise(line.index), onmouseleave: () => this.chart.emphasise(null) },
      h("th", { scope: "row" }, swatch(line.index), name),
      ["first", "last", "min", "max"].map((key) => h("td", { class: "number" }, value(key))),
      this.options.group.length === 0 && h("td", { class: "number", title: line.isCut ? CURVE_CUT : null }, rowsText(line)));
    this.tableRows.set(line.index, row);
    return row;
  }

  sortBy(name) {
    this.sort = { name, isReverse: this.sort.name === name && !this.sort.isReverse };
    this.showTable();
  }

  sorted() {
    const { name, isReverse } = this.sort;
    const { from, to } = this.options;
    const lines = this.lines.map((line) => ({ ...line, ...statsBetween(line, from, to), ...rowsBetween(line, from, to) }));
    if (!name) return lines;
    return lines.sort((one, other) => (isReverse ? -1 : 1) * compareValues(one[name], other[name]));
  }

  focus() {
    this.chart.focus();
  }

  markRow(index) {
    this.chart.emphasise(index);
    this.marked?.classList.remove("is-strong");
    this.marked = this.tableRows?.get(index);
    this.marked?.classList.add("is-strong");
  }

  async copy() {
    const text = curveCsv(this);
    try {
      await navigator.clipboard.writeText(text);
      this.copied.textContent = `${counted(text.split("\n").length - 2, "row")} copied`;
    } catch {
      this.copied.textContent = "The browser does not allow copying.";
    }
  }

  close() {
    this.watch.close();
    this.chart.close();
  }
}

// Check whether a line has a last value in a range of x, which may be no number, as statsBetween does not tell them apart.
function hasLast({ first, last }) {
  return !Number.isNaN(last) || !Number.isNaN(first);
}

// Return the number of rows within a range of x; of a thinned curve only the points there are known (`isCut`).
function rowsBetween(line, from, to) {
  if (from === undefined) return { rows: line.rows };
  const [start, end] = indexesBetween(line, from, to, 0);
  let rows = 0;
  for (let index = start; index < end; index++) if (line.x[index] >= from && line.x[index] <= to) rows += 1;
  return { rows, isCut: line.isThinned };
}

function rowsText({ rows, isCut }) {
  return isCut ? `≥ ${numberText(rows)}` : numberText(rows);
}

// Return the points between the edges of the chart as CSV: of each the run, its label, x and the value.
function curveCsv({ lines, entries, page, column, options }) {
  const rows = [["run", "parameters", options.x, column]];
  for (const line of lines) {
    const entry = entries[line.index];
    const ids = entry.rows.map((row) => page.data.ids[row]).join(" ");
    const label = entry.parts.map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
    const [start, end] = indexesBetween(line, options.from ?? -Infinity, options.to ?? Infinity, 0);
    for (let index = start; index < end; index++) rows.push([ids, label, line.x[index], line.y[index]]);
  }
  return rows.map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

function csvCell(value) {
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
