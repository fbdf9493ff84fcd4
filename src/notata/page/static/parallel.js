// Parallel coordinates: one axis for each parameter that differs and for chosen metrics, one line for each run.

import { atNextFrame, h, replace, s } from "./dom.js";
import { counted, numberText, shortened, timeText, valueText } from "./format.js";
import { menuBox } from "./menu.js";
import { currentState, goTo, linkTo, listOf, listText, setOptions } from "./state.js";
import { byImportance, compareValues, keyOf } from "./rundata.js";
import { roomyRange, scaleOf, ticksOf } from "./scales.js";
import { axisKind, colouring, isNumbers, isWide, numberOf, plottedText, rangeOf } from "./colours.js";

const PARALLEL_AXES = 8;
const PARALLEL_TEXTS = 14;
const PARALLEL_NEAR = 10;

export class ParallelPlot {
  constructor(page) {
    this.page = page;
    this.menu = menuBox("curve-group");
    this.brushes = h("div", { class: "toolbar" });
    this.status = h("p", { class: "faint", role: "status" });
    this.svg = s("svg", { class: "chart-svg", role: "img", "aria-label": "Parallel coordinates" });
    this.cursor = h("div", { class: "chart-cursor", hidden: true });
    this.chart = h("div", {
      class: "chart parallel", onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event),
      onpointerup: () => this.up(), onpointercancel: () => this.up(), onpointerleave: () => this.point(null), onclick: () => this.open(),
    }, this.svg, this.cursor);
    this.names = h("ol", { class: "parallel-names" });
    this.legend = h("div", {});
    this.scroll = h("div", { class: "parallel-scroll" }, h("div", { class: "parallel-inner" }, this.names, this.chart));
    this.element = h("section", { "aria-label": "Parallel coordinates" }, h("h2", {}, "Parallel coordinates"),
      h("div", { class: "toolbar curve-controls" }, this.menu, this.brushes), this.scroll, this.legend, this.status);
    this.redraw = atNextFrame(() => this.draw());
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.scroll);
  }

  update(rows) {
    const { data } = this.page;
    const { options } = currentState();
    this.rows = rows;
    const metrics = data.columns.filter((column) => column.kind === "metric" && isNumbers(column) && !column.hidden);
    const first = byImportance(metrics.map(({ name }) => name), options.sort)[0];
    const params = data.differing(rows).filter(({ hidden }) => !hidden);
    const standard = [...params.slice(0, PARALLEL_AXES - 1), ...metrics.filter(({ name }) => name === first)];
    const named = options.axes === undefined ? standard : listOf(options.axes).map((name) => data.byName.get(name)).filter(Boolean);
    this.columns = named;
    this.ranges = new Map(listOf(options.brush).map((item) => item.split(":").map(decodeURIComponent)).filter((item) => item.length === 3)
      .map(([name, low, high]) => [name, [low, high]]));
    this.showMenu([...data.differing(data.ids.keys()), ...data.columns.filter((column) => column.kind === "metric" || isNumbers(column))]);
    this.redraw();
  }

  showMenu(columns) {
    const all = [...new Set([...this.columns, ...columns])];
    const chosen = this.columns.map(({ name }) => name);
    const key = JSON.stringify([all.map(({ name }) => name), chosen]);
    if (key === this.menuKey) return;
    this.menuKey = key;
    const focused = document.activeElement?.dataset?.axis;
    const toggle = (name, isOn) => setOptions({ axes: listText(isOn ? [...chosen, name] : chosen.filter((one) => one !== name)) });
    const box = ({ name }) => h("label", {}, h("input", {
      type: "checkbox", checked: chosen.includes(name), "data-axis": name,
      onchange: (event) => toggle(name, event.target.checked),
    }), h("span", {}, name));
    replace(this.menu, h("summary", {}, `Axes (${chosen.length})`),
      h("div", { class: "menu-body" }, h("div", { class: "menu-list" }, all.map(box))));
    if (focused) [...this.menu.querySelectorAll("[data-axis]")].find((one) => one.dataset.axis === focused)?.focus();
  }

  draw() {
    const count = this.columns.length;
    const width = Math.max(Math.round(this.scroll.clientWidth), count * 84);
    if (!this.scroll.clientWidth) return;
    const height = 300;
    this.scroll.firstChild.style.width = `${width}px`;
    const [top, bottom, side] = [10, height - 26, width / Math.max(count, 1) / 2];
    const place = (index) => side + (index * (width - 2 * side)) / Math.max(count - 1, 1);
    this.axes = this.columns.map((column, index) => parallelAxis(column, this.rows, place(index), top, bottom));
    const last = this.columns[count - 1];
    this.colours = colouring(last, this.rows);
    replace(this.legend, this.colours.legend);
    this.lines = this.rows.map((row) => ({ row, points: this.axes.map((axis) => [axis.x, axis.at(row)]) }));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    const names = this.columns.map(({ name }) => name).join(", ");
    this.svg.setAttribute("aria-label", `Parallel coordinates of ${names}: ${counted(this.rows.length, "run")}`);
    this.front = s("g", {});
    this.marks = s("g", {});
    this.svg.replaceChildren(this.drawLines(), this.front, ...this.axes.map((axis) => axisElement(axis, top, bottom)), this.marks);
    this.chart.style.height = `${height}px`;
    this.showNames();
    this.showBrushes();
  }

  drawLines() {
    const group = s("g", { class: `parallel-lines${this.lines.length > 200 ? " is-many" : ""}` });
    for (const line of this.lines) {
      const { fill, tint = "" } = this.colours.of(line.row);
      line.element = s("path", { class: `parallel-line ${tint}`, d: parallelPath(line.points), stroke: fill });
      group.append(line.element);
    }
    return group;
  }

  showNames() {
    const chosen = this.columns.map(({ name }) => name);
    const focused = document.activeElement?.dataset?.name;
    replace(this.names, this.axes.map(({ column, x }, index) => {
      const item = h("li", {}, h("button", {
        class: "plain", "data-name": column.name, title: `${column.name}: the left and right keys move the axis`,
        onkeydown: (event) => this.moveAxis(event, chosen, index),
      }, shortened(column.name, 26)));
      item.style.left = `${x}px`;
      item.style.width = `${Math.max(70, this.svg.getAttribute("width") / this.axes.length - 8)}px`;
      return item;
    }));
    if (focused) [...this.names.querySelectorAll("[data-name]")].find((one) => one.dataset.name === focused)?.focus();
  }

  moveAxis(event, chosen, index) {
    const to = event.key === "ArrowLeft" ? index - 1 : event.key === "ArrowRight" ? index + 1 : -1;
    if (to < 0 || to >= chosen.length) return;
    event.preventDefault();
    const axes = [...chosen];
    [axes[index], axes[to]] = [axes[to], axes[index]];
    setOptions({ axes: listText(axes) }, { replaces: true });
  }

  // Brushes: a range on an axis leaves only the runs within it.

  showBrushes() {
    const active = this.axes.filter((axis) => this.brushOf(axis));
    const isWithin = (line) => active.every((axis) => {
      const [from, to] = this.brushOf(axis);
      const y = axis.at(line.row);
      return y >= from - 0.5 && y <= to + 0.5 && y <= axis.bottom + 5;
    });
    let count = 0;
    for (const line of this.lines) {
      line.isWithin = isWithin(line);
      if (line.isWithin) count++;
      line.element.classList.toggle("is-out", !line.isWithin);
    }
    for (const line of this.lines) if (line.isWithin && active.length > 0) line.element.parentNode.append(line.element);
    this.marks.replaceChildren(...active.map((axis) => {
      const [from, to] = this.brushOf(axis);
      return s("rect", { class: "parallel-brush", x: axis.x - 8, y: from, width: 16, height: Math.max(to - from, 2) });
    }));
    replace(this.brushes, active.map(({ column }) => h("button", { onclick: () => this.setBrush(column.name, null) },
      `${column.name}: ${this.brushText(column)} `, h("span", { "aria-label": "Remove" }, "×"))));
    this.status.textContent = active.length
      ? `${counted(count, "run")} of ${this.lines.length} within the ranges`
      : "Drag along an axis to see only the runs of a range.";
  }

  brushOf(axis) {
    const { drag } = this;
    if (drag?.axis === axis && drag.isMoving) return [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    const range = this.ranges.get(axis.column.name);
    return range ? axis.pixels(range).map((y) => Math.min(Math.max(y, axis.top - 5), axis.bottom + 5)) : null;
  }

  brushText(column) {
    const [low, high] = this.ranges.get(column.name) ?? ["", ""];
    if (!isNumbers(column)) return low === high ? shortened(low, 20) : `${shortened(low, 20)} to ${shortened(high, 20)}`;
    const text = (value) => (column.type === "time" ? timeText(value * 1000) : numberText(value, 3));
    return `${text(Number(low))} to ${text(Number(high))}`;
  }

  setBrush(name, range) {
    const ranges = new Map(this.ranges);
    if (range) ranges.set(name, range);
    else ranges.delete(name);
    const items = [...ranges].map(([key, [low, high]]) => [key, low, high].map(encodeURIComponent).join(":"));
    setOptions({ brush: items.length ? listText(items) : null });
  }

  place(event) {
    const box = this.svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (event.button !== 0 || !this.axes) return;
    const [x, y] = this.place(event);
    const axis = this.axes.find((one) => Math.abs(one.x - x) < 14);
    this.wasDragged = false;
    if (!axis) return;
    event.preventDefault();
    this.drag = { axis, from: y, to: y, isMoving: false };
    this.chart.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.axes) return;
    const [x, y] = this.place(event);
    if (!this.drag) {
      this.point(nearestLine(this.lines, this.axes, x, y), x, y);
      return;
    }
    const { axis } = this.drag;
    this.drag.to = Math.min(Math.max(y, axis.top), axis.bottom);
    if (Math.abs(this.drag.to - this.drag.from) > 3) this.drag.isMoving = true;
    this.showBrushes();
  }

  up() {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    this.wasDragged = true;
    const name = drag.axis.column.name;
    if (drag.isMoving) this.setBrush(name, drag.axis.values(Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)));
    else if (this.ranges.has(name)) this.setBrush(name, null);
  }

  point(line, x = 0, y = 0) {
    this.at = line;
    this.cursor.hidden = !line;
    this.chart.classList.toggle("is-pointed", Boolean(line));
    this.front?.replaceChildren();
    if (!line) return;
    const { fill, tint = "" } = this.colours.of(line.row);
    const d = parallelPath(line.points);
    this.front.append(s("path", { class: "chart-halo", d }), s("path", { class: `parallel-line is-strong ${tint}`, d, stroke: fill }));
    replace(this.cursor, h("p", { class: "chart-place" }, this.page.data.fact(line.row, "name")), this.columns.map((column) =>
      h("p", { class: "is-near" }, h("span", { class: "faint" }, `${column.name} `), plottedText(column, line.row))));
    const width = this.chart.clientWidth;
    this.cursor.style.left = x > width / 2 ? "auto" : `${x + 14}px`;
    this.cursor.style.right = x > width / 2 ? `${width - x + 14}px` : "auto";
    this.cursor.style.top = `${Math.max(0, Math.min(y - 30, 120))}px`;
  }

  open() {
    if (this.at && !this.wasDragged) goTo(linkTo("run", [this.page.data.ids[this.at.row]]));
  }

  close() {
    this.sizes.disconnect();
  }
}

// An axis: where a run lies on it, its ticks, and the values of a range of pixels. Runs without a value lie below it.
function parallelAxis(column, rows, x, top, bottom) {
  const axis = { column, x, top, bottom };
  return Object.assign(axis, isNumbers(column) ? numberAxis(column, rows, axis) : textAxis(column, rows, axis));
}

function numberAxis(column, rows, { top, bottom }) {
  const values = rows.map((row) => numberOf(column, row));
  const [low, high] = rangeOf(values);
  const isLog = column.type === "number" && isWide(values);
  const [from, to] = Number.isFinite(low) ? [low, high] : [0, 1];
  const range = { ...roomyRange(from, to, isLog, 0), kind: axisKind(column) };
  const scale = scaleOf(range, bottom, top);
  const distinct = [...new Set(values.filter(Number.isFinite))].sort((one, other) => one - other);
  const isFew = distinct.length <= 6 && column.type === "number";
  const ticks = isFew ? distinct.map((value) => ({ value, text: numberText(value, 3) })) : ticksOf(range, 6);
  return {
    at: (row) => parallelPlace(scale.at(numberOf(column, row)), bottom),
    ticks: ticks.map(({ value, text }) => ({ y: scale.at(value), text })),
    values: (from, to) => [scale.value(to), scale.value(from)].map((value) => Number(value.toPrecision(6)).toString()),
    pixels: ([from, to]) => [scale.at(Number(to)), scale.at(Number(from))],
  };
}

function parallelPlace(y, bottom) {
  return Number.isFinite(y) ? y : bottom + 16;
}

function textAxis(column, rows, { top, bottom }) {
  const given = rows.map((row) => column.values[row] ?? null).filter((value) => value !== null);
  const known = new Map(given.map((value) => [keyOf(value), value]));
  const values = [...known.values()].sort(compareValues);
  const y = (index) => (values.length === 1 ? (top + bottom) / 2 : bottom - (index * (bottom - top)) / (values.length - 1));
  const places = new Map(values.map((value, index) => [keyOf(value), y(index)]));
  const every = Math.ceil(values.length / PARALLEL_TEXTS);
  const within = (from, to) => values.filter((value) => places.get(keyOf(value)) >= from - 4 && places.get(keyOf(value)) <= to + 4);
  const placeOf = (text) => places.get(keyOf(values.find((value) => valueText(value) === text) ?? null)) ?? NaN;
  return {
    at: (row) => places.get(keyOf(column.values[row] ?? null)) ?? bottom + 16,
    ticks: values.filter((_, index) => index % every === 0)
      .map((value) => ({ y: places.get(keyOf(value)), text: shortened(valueText(value), 14) })),
    values: (from, to) => {
      const chosen = within(from, to);
      return chosen.length ? [valueText(chosen[0]), valueText(chosen[chosen.length - 1])] : null;
    },
    pixels: ([from, to]) => [placeOf(to) - 5, placeOf(from) + 5],
  };
}

function axisElement({ x, top, bottom, ticks }) {
  return s("g", {},
    s("path", { class: "parallel-axis", d: `M${x} ${top}V${bottom}` }),
    ticks.map(({ y, text }) => [
      s("path", { class: "parallel-axis", d: `M${x - 3} ${y}h6` }),
      s("text", { class: "chart-tick parallel-tick", x: x + 6, y: y + 4 }, text),
    ]));
}

function parallelPath(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function nearestLine(lines, axes, x, y) {
  let after = axes.findIndex((axis) => axis.x >= x);
  if (after <= 0) after = after === 0 ? 1 : axes.length - 1;
  if (axes.length < 2) return null;
  const [left, right] = [axes[after - 1].x, axes[after].x];
  const share = Math.min(Math.max((x - left) / (right - left), 0), 1);
  let [best, distance] = [null, PARALLEL_NEAR];
  for (const line of lines) {
    if (!line.isWithin) continue;
    const away = Math.abs(line.points[after - 1][1] * (1 - share) + line.points[after][1] * share - y);
    if (away < distance) [best, distance] = [line, away];
  }
  return best;
}
