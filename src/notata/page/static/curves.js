// The charts of the chosen runs, one of each column of a series. Only those on the screen are read and drawn.

import { afterPause, h, replace } from "./dom.js";
import { counted, numberText, shortened, valueText } from "./format.js";
import { byImportance } from "./rundata.js";
import { currentState, linkTo, listText, setOptions } from "./state.js";
import { swatch } from "./swatch.js";
import { LineChart } from "./chart.js";
import { ColumnData, CURVE_AXES, curveEntries, curveOptions, entryText, thinnedLine, zoomOptions } from "./curvedata.js";
import { CurveControls } from "./curvecontrols.js";

const CURVES_KEPT = 200;
const CURVES_WATCHED = 200; // runs whose new rows are requested at once
const CURVES_LEGEND = 60;

export function curvesPanel(page, { rows }) {
  const panel = new CurvesPanel(page);
  panel.update(rows);
  return panel;
}

class CurvesPanel {
  constructor(page) {
    this.page = page;
    this.cards = new Map();
    this.emphasised = null;
    this.controls = new CurveControls(page);
    this.legend = new CurveLegend((index) => this.emphasise(index));
    this.grid = h("div", { class: "curve-grid" });
    this.empty = h("p", { class: "empty" });
    this.element = h("section", { class: "curves", "aria-label": "Curves" },
      this.controls.element, this.legend.element, this.grid, this.empty);
    this.seen = new IntersectionObserver((entries) => this.see(entries), { rootMargin: "150px" });
    this.watch = new CurveWatch(page, (ids) => this.readAgain(ids));
  }

  update(rows) {
    this.rows = rows;
    this.options = curveOptions(this.page, rows);
    this.entries = curveEntries(this.page, rows, this.options);
    const { sort } = currentState().options;
    const parts = this.page.data.columnsOf(this.options.series, rows).map((columns) => byImportance(columns, sort));
    const all = parts.flat();
    this.unlikely = new Set(parts[0].length > 0 ? parts[1] : []);
    const columns = matchingColumns(all, this.options.find);
    this.controls.update(this.options, rows, all.length);
    this.showCards(columns);
    this.legend.update(this.entries, this.page);
    this.showEmpty(all, columns);
    for (const card of this.cards.values()) card.update();
    this.showValues();
    this.watchSeen();
  }

  // The large chart draws the chosen runs. Of a panel elsewhere than beside the table, they are its own.
  choice() {
    return currentState().view === "runs" ? {} : { sel: listText(this.rows.map((row) => this.page.data.ids[row])) };
  }

  showEmpty(all, columns) {
    const text = this.rows.length === 0 ? "Select runs in the table to see their curves."
      : all.length === 0 ? "These runs have no series." : columns.length === 0 ? "No column matches." : "";
    this.empty.textContent = text;
    this.empty.hidden = !text;
    this.grid.hidden = Boolean(text);
    this.legend.element.hidden = Boolean(text);
  }

  // Keep the cards of columns that stay, so that their charts do not flicker.
  showCards(columns) {
    const key = JSON.stringify([this.options.series, columns]);
    if (key === this.cardsKey) return;
    const isSeries = this.cardsSeries === this.options.series;
    [this.cardsKey, this.cardsSeries] = [key, this.options.series];
    const before = this.cards;
    this.cards = new Map(columns.map((column) => [column, (isSeries && before.get(column)) || new CurveCard(this, column)]));
    for (const card of before.values()) if (this.cards.get(card.column) !== card) this.closeCard(card);
    replace(this.grid, [...this.cards.values()].map((card) => card.element));
    for (const card of this.cards.values()) this.seen.observe(card.element);
  }

  closeCard(card) {
    this.seen.unobserve(card.element);
    card.close();
  }

  see(entries) {
    for (const { target, isIntersecting } of entries) {
      const card = [...this.cards.values()].find(({ element }) => element === target);
      card?.see(isIntersecting);
    }
    this.watchSeen();
  }

  watchSeen() {
    const isSeen = [...this.cards.values()].some((card) => card.isSeen);
    this.watch.update(this.options.series, isSeen ? this.rows : []);
  }

  readAgain(ids) {
    for (const card of this.cards.values()) card.read(ids);
  }

  emphasise(index, card = null) {
    this.emphasised = index;
    for (const one of this.cards.values()) one.chart?.emphasise(index);
    this.legend.emphasise(index);
    if (card && card !== this.pointed) {
      this.pointed = card;
      this.showValues();
    }
  }

  // The legend shows the last values of the column that was pointed at last, else of the first one.
  showValues() {
    const card = this.cards.get(this.pointed?.column) ?? this.cards.values().next().value;
    if (card?.lines) this.legend.showValues(card.column, card.lines);
  }

  close() {
    this.seen.disconnect();
    this.watch.close();
    for (const card of this.cards.values()) card.close();
  }
}

// Return the columns whose name contains a text, in which `*` stands for any characters.
function matchingColumns(columns, find) {
  const parts = find.toLowerCase().split("*").filter(Boolean);
  return columns.filter((column) => {
    const name = column.toLowerCase();
    let at = 0;
    return parts.every((part) => {
      const found = name.indexOf(part, at);
      at = found + part.length;
      return found >= 0;
    });
  });
}

// Runs that are being written come first: they may not all be watched.
function orderedRunning(data, rows) {
  const isRunning = (row) => ["running", "replacing"].includes(data.fact(row, "status"));
  return [...rows.filter(isRunning), ...rows.filter((row) => !isRunning(row))];
}

// Call again when runs that are on the screen have new rows. Only the live page knows.
export class CurveWatch {
  constructor(page, tell) {
    this.page = page;
    this.key = "";
    this.end = () => {};
    this.changed = new Set();
    this.tellAll = afterPause(50, () => {
      const ids = [...this.changed];
      this.changed.clear();
      tell(ids);
    });
  }

  update(series, rows) {
    const { source, data } = this.page;
    if (!source.live) return;
    const ids = orderedRunning(data, rows).slice(0, CURVES_WATCHED).map((row) => data.ids[row]);
    const key = JSON.stringify([series, ids]);
    if (key === this.key) return;
    this.key = key;
    this.end();
    this.end = ids.length === 0 ? () => {} : source.watch({ series: { [series]: ids } }, (event) => {
      if (event.kind !== "rows" && event.kind !== "recovered") return;
      const changed = event.ids?.length ? event.ids.filter((id) => ids.includes(id)) : ids;
      for (const id of changed) this.changed.add(id);
      if (changed.length > 0) this.tellAll();
    });
  }

  close() {
    this.end();
    this.key = "";
  }
}

// The small chart of one column.
class CurveCard {
  constructor(panel, column) {
    Object.assign(this, { panel, column, isSeen: false, chart: null, lines: null });
    this.data = new ColumnData(panel.page, column);
    this.link = h("a", {}, shortened(column, 60));
    this.note = h("span", { class: "curve-note" });
    this.host = h("div", { class: "curve-host", hidden: panel.unlikely.has(column) });
    this.problems = h("p", { class: "curve-problems" });
    this.element = h("figure", { class: "curve-card" },
      h("figcaption", {}, h("h2", { title: column }, this.link), this.note), this.host, this.problems);
  }

  see(isSeen) {
    this.isSeen = isSeen;
    if (isSeen) this.update();
    else if (this.panel.rows.length > CURVES_KEPT) this.data.drop();
  }

  update() {
    this.link.href = linkTo("curve", [this.panel.options.series, this.column], this.panel.choice());
    if (!this.isSeen) return;
    this.chart ??= this.openChart();
    this.read();
    this.draw();
  }

  openChart() {
    const chart = new LineChart({
      nameOf: (line) => entryText(this.panel.entries[line.index]),
      onPoint: (point) => this.panel.emphasise(point ? point.line.index : null, this),
      onZoom: (from, to) => setOptions(zoomOptions(from, to)),
    });
    this.host.append(chart.element);
    return chart;
  }

  read(again = []) {
    const { options, rows } = this.panel;
    if (this.isSeen) this.data.read(options, rows, () => this.draw(), again);
  }

  draw() {
    if (!this.chart) return;
    const { options, entries } = this.panel;
    this.lines = this.data.drawn(entries, options);
    this.chart.show(this.lines, { ...chartOptions(options), title: this.column, note: this.data.error, isLoading: this.data.isReading });
    this.showEmpty();
    this.problems.textContent = this.data.problems.join(" ");
    this.panel.showValues();
  }

  // A column that none of the runs has takes only a line. While its curves are being read, that stays as it
  // is, and so it does after an error.
  showEmpty() {
    const { isReading, error } = this.data;
    if (this.lines.length > 0) this.host.hidden = false;
    else if (!isReading && !error) this.host.hidden = true;
    showThinned(this.note, this.lines);
    if (this.host.hidden && !isReading) Object.assign(this.note, { textContent: error ? "Cannot be read" : "No values", title: error });
  }

  close() {
    this.chart?.close();
  }
}

export function chartOptions({ x, isLogX, isLogY, from, to }) {
  return { kind: CURVE_AXES[x], isLogX, isLogY, from, to };
}

// Say that not every row is drawn, and how the others were chosen.
export function showThinned(element, lines) {
  const line = thinnedLine(lines);
  element.textContent = line ? `${numberText(line.points)} of ${counted(line.rows, "row")}` : "";
  element.title = line ? "The smallest and the largest value of each part of the curve are kept." : "";
}

// The legend of all charts of a panel.
class CurveLegend {
  constructor(onEmphasis) {
    this.onEmphasis = onEmphasis;
    this.items = new Map();
    this.list = h("ul", {});
    this.head = h("p", { class: "curve-legend-head" });
    this.element = h("div", { class: "curve-legend" }, this.head, this.list);
  }

  update(entries, page) {
    const key = JSON.stringify(entries.map((entry) => [entry.rows.map((row) => page.data.ids[row]), entryText(entry)]));
    if (key === this.key) return;
    this.key = key;
    this.items = new Map(entries.slice(0, CURVES_LEGEND).map((entry) => [entry.index, legendItem(entry, page, this.onEmphasis)]));
    const more = entries.length - this.items.size;
    const items = [...this.items.values()].map(({ element }) => element);
    replace(this.list, items, more > 0 && h("li", { class: "faint" }, `and ${numberText(more)} more`));
  }

  emphasise(index) {
    for (const [own, { element }] of this.items) element.classList.toggle("is-strong", own === index);
  }

  showValues(column, lines) {
    const last = new Map(lines.map((line) => [line.index, line.last]));
    this.head.textContent = `Last values of ${column}`;
    for (const [index, { value }] of this.items) value.textContent = last.has(index) ? numberText(last.get(index), 4) : "";
  }
}

function legendItem(entry, page, onEmphasis) {
  const value = h("span", { class: "curve-value number" });
  const text = entry.parts.length
    ? entry.parts.map(([name, part]) => [
      h("span", { class: "curve-part" }, h("span", { class: "faint" }, `${name} `), shortened(valueText(part), 24)), " ",
    ])
    : shortened(entry.name, 40);
  const listeners = {
    onmouseenter: () => onEmphasis(entry.index), onmouseleave: () => onEmphasis(null),
    onfocus: () => onEmphasis(entry.index), onblur: () => onEmphasis(null),
  };
  const isGroup = entry.rows.length > 1;
  const address = linkTo("run", [page.data.ids[entry.rows[0]]]);
  const count = isGroup && h("span", { class: "faint" }, ` ${counted(entry.rows.length, "run")}`);
  const content = [swatch(entry.index), h("span", { class: "curve-name" }, text, count), value];
  const element = isGroup
    ? h("li", {}, h("button", { class: "curve-entry", ...listeners }, content))
    : h("li", {}, h("a", { class: "curve-entry", href: address, title: entry.name, ...listeners }, content));
  return { element, value };
}
