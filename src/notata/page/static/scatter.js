// The view of plots: any number of the runs against any other, and below it parallel coordinates.

import { atNextFrame, h, replace, s } from "./dom.js";
import { counted } from "./format.js";
import { currentState, goTo, linkTo, setOptions } from "./state.js";
import { pictureOf } from "./chart.js";
import { svgAxes } from "./linechart.js";
import { byImportance, keyOf } from "./rundata.js";
import { roomyRange } from "./scales.js";
import { axisKind, COLOUR_DARK, colouring, isNumbers, isWide, numberOf, plottedText, rangeOf } from "./colours.js";
import { ParallelPlot } from "./parallel.js";
import { visibleRows } from "./table.js";

const SCATTER_NEAR = 24;

export function plotsView(page) {
  return new PlotsView(page);
}

class PlotsView {
  constructor(page) {
    this.page = page;
    this.title = "Plots";
    this.scatter = new ScatterPlot(page);
    this.parallel = new ParallelPlot(page);
    this.filter = h("p", { class: "faint" });
    this.element = h("div", { class: "plots" }, this.filter, this.scatter.element, this.parallel.element);
    this.recolour = () => this.update();
    COLOUR_DARK.addEventListener("change", this.recolour);
    this.update();
  }

  update() {
    const rows = visibleRows(this.page);
    const { where } = currentState().options;
    const isAll = rows.length === this.page.data.count;
    const all = counted(this.page.data.count, "run");
    replace(this.filter, isAll ? all : [`${rows.length} of ${all}`, where && [" with ", h("code", {}, where)]],
      " · ", h("a", { href: linkTo("runs") }, isAll ? "Filter them in the table" : "Change the filter in the table"));
    this.scatter.update(rows);
    this.parallel.update(rows);
  }

  close() {
    COLOUR_DARK.removeEventListener("change", this.recolour);
    this.scatter.close();
    this.parallel.close();
  }
}

// Return the columns that a plot offers, those of parameters and metrics first.
function plotColumns(data, isWanted) {
  const ranks = { param: 0, metric: 1, fact: 2 };
  return data.columns.filter(isWanted).sort((one, other) => ranks[one.kind] - ranks[other.kind]);
}

// Return the metric that people look at first.
function scatterMetric(data, numbers, sort) {
  const metrics = new Map(numbers.filter(({ kind, hidden }) => kind === "metric" && !hidden).map((column) => [column.name, column]));
  return metrics.get(byImportance(metrics.keys(), sort)[0]);
}

// Return the column with the most different values, and one of repetitions only if there is no other.
function scatterWidest(columns, rows, group) {
  const isRepetition = ({ name }) => group.includes(name) || /(^|[._/])seed$/i.test(name);
  const count = (column) => (isRepetition(column) ? 0 : new Set(rows.map((row) => keyOf(column.values[row]))).size);
  return [...columns].sort((one, other) => count(other) - count(one))[0];
}

class ScatterPlot {
  constructor(page) {
    this.page = page;
    const select = (name) => h("select", { onchange: (event) => setOptions({ [name]: event.target.value }) });
    [this.x, this.y, this.colour] = [select("sx"), select("sy"), select("scolour")];
    const log = (axis) => h("button", { onclick: () => this.toggleLog(axis) }, `Log ${axis}`);
    [this.logX, this.logY] = [log("x"), log("y")];
    this.svg = s("svg", { class: "chart-svg", role: "img", "aria-label": "Scatter plot" });
    this.cursor = h("div", { class: "chart-cursor", hidden: true });
    this.message = h("p", { class: "chart-message" });
    this.chart = h("div", {
      class: "chart scatter", tabindex: 0, role: "group", "aria-label": "Scatter plot. Left and right go through the runs, Enter opens one",
      onpointermove: (event) => this.move(event), onpointerleave: () => this.point(-1),
      onclick: (event) => this.open(event), onkeydown: (event) => this.press(event),
    }, this.svg, this.message, this.cursor);
    this.legend = h("div", {});
    this.notes = h("p", { class: "faint", role: "status" });
    this.element = h("section", { "aria-label": "Scatter plot" }, h("h2", {}, "Scatter"),
      h("div", { class: "toolbar curve-controls" },
        h("label", {}, "Y ", this.y), h("label", {}, "Against x ", this.x), h("label", {}, "Colour ", this.colour), this.logY, this.logX),
      this.chart, this.legend, this.notes);
    this.redraw = atNextFrame(() => this.draw());
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.chart);
  }

  // Without the option, numbers that reach over decades have a logarithmic axis.
  isLog(axis, column) {
    if (!column || column.type === "time") return false;
    const { slog } = currentState().options;
    return slog === undefined ? isWide(this.rows.map((row) => numberOf(column, row))) : slog.includes(axis);
  }

  toggleLog(axis) {
    const wanted = { x: this.isLogX, y: this.isLogY };
    wanted[axis] = !wanted[axis];
    setOptions({ slog: Object.keys(wanted).filter((name) => wanted[name]).join("") });
  }

  update(rows) {
    const { data } = this.page;
    const { options } = currentState();
    this.rows = rows;
    const numbers = plotColumns(data, isNumbers);
    const differing = data.differing(rows);
    const find = (name, fallback) => data.byName.get(name) ?? fallback;
    const metric = scatterMetric(data, numbers, options.sort) ?? numbers[0];
    const drawn = metric ? rows.filter((row) => Number.isFinite(numberOf(metric, row))) : rows;
    const widest = scatterWidest(differing.filter(isNumbers), drawn, data.json.group ?? []);
    this.xColumn = find(options.sx, widest ?? numbers.find((column) => column !== metric) ?? metric);
    this.yColumn = find(options.sy, metric);
    this.colourColumn = options.scolour === "" ? null : find(options.scolour, differing.find((column) => column !== this.xColumn) ?? null);
    scatterChoices(this.x, numbers, this.xColumn);
    scatterChoices(this.y, numbers, this.yColumn);
    scatterChoices(this.colour, plotColumns(data, ({ type, path }) => type !== "other" && path !== "id"), this.colourColumn, true);
    [this.isLogX, this.isLogY] = [this.isLog("x", this.xColumn), this.isLog("y", this.yColumn)];
    this.logX.setAttribute("aria-pressed", String(this.isLogX));
    this.logY.setAttribute("aria-pressed", String(this.isLogY));
    this.selected = options.sel === undefined || options.sel === "*" ? new Set() : new Set(options.sel.split(",").map(decodeURIComponent));
    this.redraw();
  }

  draw() {
    const width = Math.round(this.chart.clientWidth);
    const height = this.chart.clientHeight;
    if (!width || !this.xColumn || !this.yColumn) {
      this.message.textContent = "The runs have no numbers.";
      return;
    }
    const found = this.rows.map((row) => ({ row, x: numberOf(this.xColumn, row), y: numberOf(this.yColumn, row) }))
      .filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
    const points = found.filter(({ x, y }) => !(this.isLogX && x <= 0) && !(this.isLogY && y <= 0));
    const notes = [[this.rows.length - found.length, "without both values"], [found.length - points.length, "with values not above 0"]];
    this.notes.textContent = notes.filter(([count]) => count).map(([count, text]) => `${counted(count, "run")} ${text}`).join(", ");
    this.message.textContent = points.length ? "" : "No run has both values.";
    this.colours = colouring(this.colourColumn, this.rows);
    replace(this.legend, points.length > 0 && this.colours.legend);
    this.points = [];
    this.svg.replaceChildren();
    if (points.length > 0) this.drawPoints(points, width, height);
  }

  drawPoints(points, width, height) {
    const ends = (name) => rangeOf(points.map((point) => point[name]));
    const range = (name, column, isLog) => ({ ...roomyRange(...ends(name), isLog, 0.04), kind: axisKind(column) });
    const ranges = { x: range("x", this.xColumn, this.isLogX), y: range("y", this.yColumn, this.isLogY) };
    const picture = pictureOf({ width, height: height - 18, isLarge: true, side: 18 }, ranges);
    this.points = points.map(({ row, x, y }) => ({ row, x: picture.atX(x), y: picture.atY(y) }))
      .sort((one, other) => one.x - other.x);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-label", `${this.yColumn.name} against ${this.xColumn.name}: ${counted(points.length, "run")}`);
    const radius = points.length > 300 ? 3.5 : 5;
    const middle = (picture.left + picture.right) / 2;
    const centre = (picture.top + picture.bottom) / 2;
    this.ring = s("circle", { class: "scatter-ring", r: radius + 3 });
    this.svg.replaceChildren(
      ...svgAxes(picture),
      s("text", { class: "chart-tick scatter-name", x: middle, y: height - 2, "text-anchor": "middle" }, this.xColumn.name),
      s("text", {
        class: "chart-tick scatter-name", transform: `translate(12 ${centre}) rotate(-90)`, "text-anchor": "middle",
      }, this.yColumn.name),
      ...this.points.map(({ row, x, y }) => this.dot(row, x, y, radius)));
  }

  dot(row, x, y, radius) {
    const { fill, tint = "" } = this.colours.of(row);
    const isChosen = this.selected.has(this.page.data.ids[row]);
    const name = `scatter-point ${tint}${isChosen ? " is-chosen" : ""}`;
    return s("circle", { class: name, fill, cx: x.toFixed(1), cy: y.toFixed(1), r: radius });
  }

  move(event) {
    const box = this.chart.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, distance] = [-1, SCATTER_NEAR];
    (this.points ?? []).forEach((point, index) => {
      const away = Math.hypot(point.x - x, point.y - y);
      if (away < distance) [best, distance] = [index, away];
    });
    this.point(best);
  }

  point(index) {
    this.at = index;
    const point = this.points?.[index];
    this.cursor.hidden = !point;
    this.chart.classList.toggle("is-pointed", Boolean(point));
    if (!point) {
      this.ring?.remove();
      return;
    }
    this.ring.setAttribute("cx", point.x);
    this.ring.setAttribute("cy", point.y);
    this.svg.append(this.ring);
    const { data } = this.page;
    const columns = [this.yColumn, this.xColumn, this.colourColumn].filter(Boolean);
    replace(this.cursor, h("p", { class: "chart-place" }, data.fact(point.row, "name")), columns.map((column) =>
      h("p", { class: "is-near" }, h("span", { class: "faint" }, `${column.name} `), plottedText(column, point.row))));
    const isRight = point.x > this.chart.clientWidth / 2;
    this.cursor.style.left = isRight ? "auto" : `${point.x + 14}px`;
    this.cursor.style.right = isRight ? `${this.chart.clientWidth - point.x + 14}px` : "auto";
    this.cursor.style.top = `${Math.max(0, Math.min(point.y - 20, this.chart.clientHeight - 90))}px`;
  }

  open(event) {
    if (event.pointerType !== "mouse" && event.detail) this.move(event);
    const point = this.points?.[this.at];
    if (point) goTo(linkTo("run", [this.page.data.ids[point.row]]));
  }

  press(event) {
    const count = this.points?.length ?? 0;
    if (event.key === "Enter") this.open(event);
    else if (count && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      event.preventDefault();
      this.point(((this.at ?? -1) + (event.key === "ArrowRight" ? 1 : -1) + count) % count);
    }
  }

  close() {
    this.sizes.disconnect();
  }
}

function scatterChoices(select, columns, chosen, isOptional = false) {
  const key = columns.map(({ name }) => name).join("\n");
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    const kinds = [["param", "Parameters"], ["metric", "Metrics"], ["fact", "Facts"]];
    replace(select, isOptional && h("option", { value: "" }, "None"), kinds.map(([kind, title]) => {
      const own = columns.filter((column) => column.kind === kind);
      return own.length > 0 && h("optgroup", { label: title }, own.map(({ name }) => h("option", { value: name }, name)));
    }));
  }
  select.value = chosen?.name ?? "";
}
