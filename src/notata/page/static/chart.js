// One chart of lines: its axes, the cursor, the zoom, and the line that is emphasised.

import { atNextFrame, h, replace, s } from "./dom.js";
import { counted, numberText } from "./format.js";
import { extentOf, indexNear } from "./lines.js";
import { openCanvas, svgInner, svgLine, TICK_FONT } from "./linechart.js";
import { axisText, roomyRange, scaleFold, scaleOf, scaleUnfold, ticksOf } from "./scales.js";
import { swatch } from "./swatch.js";

const CHART_NEAR = 36;
const CHART_KEYS = { "+": "in", "=": "in", "-": "out", _: "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };
const CHART_MOVES = { in: [0.5, 0], out: [2, 0], left: [1, -0.25], right: [1, 0.25] };

// `nameOf(line)` returns the label of a line, `onPoint({line, index} | null)` and `onZoom(from, to)` (null: everything)
// are called for the user's actions. A large chart takes keys and the wheel, and its cursor lists several lines.
export class LineChart {
  constructor({ height = 170, isLarge = false, nameOf = (line) => line.key, onPoint = () => {}, onZoom = () => {} }) {
    Object.assign(this, { height, isLarge, nameOf, onPoint, onZoom });
    this.lines = [];
    this.options = {};
    this.width = 0;
    this.emphasised = null;
    this.canvasHost = h("div", { class: "chart-canvas" });
    this.overlay = s("svg", { class: "chart-overlay", "aria-hidden": "true" });
    this.message = h("p", { class: "chart-message" });
    this.cursor = h("div", { class: "chart-cursor", hidden: true });
    this.picture = h("div", { class: "chart-picture" }, this.canvasHost, this.overlay);
    this.element = h("div", { class: `chart${isLarge ? " is-large" : ""}`, ...this.listeners() }, this.picture, this.message, this.cursor);
    this.element.style.height = `${height}px`;
    this.follow = atNextFrame(() => this.at !== undefined && this.view && this.pointAt(this.at, this.atY));
    this.redraw = atNextFrame(() => this.draw());
    this.redrawOverlay = atNextFrame(() => this.drawOverlay());
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.element);
  }

  listeners() {
    const large = { tabindex: 0, role: "group", "aria-label": "Chart. Keys: plus, minus, left, right, and 0 to see everything",
      onkeydown: (event) => this.press(event) };
    return {
      ...(this.isLarge ? large : {}),
      onpointermove: (event) => this.move(event),
      onpointerleave: () => this.leave(),
      onpointerdown: (event) => this.down(event),
      onpointerup: (event) => this.up(event),
      onpointercancel: () => this.up(null),
      ondblclick: () => this.onZoom(null, null),
    };
  }

  // Show lines. `options`: {kind of x, isLogX, isLogY, from, to, title, note}.
  show(lines, options) {
    const key = JSON.stringify(options);
    const isSame = key === this.shown && lines.length === this.lines.length;
    if (isSame && lines.every((line, place) => isSameLine(line, this.lines[place]))) return;
    Object.assign(this, { lines, options, shown: key, full: null });
    this.redraw();
  }

  resize() {
    const width = Math.round(this.element.clientWidth);
    if (!width || width === this.width) return;
    this.width = width;
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const { title = "", note = "" } = this.options;
    const ranges = this.ranges();
    this.view = ranges && pictureOf(this, ranges);
    this.message.textContent = note || (ranges ? this.hiddenText() : this.emptyText());
    this.message.className = `chart-message${ranges ? " is-note" : ""}`;
    this.picture.hidden = !ranges;
    this.picture.setAttribute("role", "img"); // not before it has a name
    this.picture.setAttribute("aria-label", ranges ? summaryText(title, this.lines, ranges) : `${title}: ${this.message.textContent}`);
    if (!ranges) return;
    this.canvas ??= openCanvas(this.canvasHost);
    this.canvas.draw(this.view);
    this.drawOverlay();
  }

  hiddenText() {
    const { unshown } = this.full;
    return unshown ? `${counted(unshown, "value")} not above 0` : "";
  }

  emptyText() {
    if (this.full.unshown) return "No values above 0 for a logarithmic axis";
    return this.options.isLoading ? "Reading…" : "No values";
  }

  // Return the ranges of both axes, or null if there is nothing to draw.
  ranges() {
    const { isLogX = false, isLogY = false, kind, from, to } = this.options;
    this.full ??= this.widened(extentOf(this.lines, { isLogX, isLogY }), `${kind} ${isLogX}`);
    const isZoomed = from !== undefined && to !== undefined && to > from && !(isLogX && from <= 0);
    if (!Number.isFinite(this.full.x[0])) return null;
    const here = isZoomed ? extentOf(this.lines, { from, to, isLogX, isLogY }) : this.full;
    const ys = Number.isFinite(here.y[0]) ? here.y : Number.isFinite(this.full.y[0]) ? this.full.y : [0, 1];
    const room = this.full.x[0] === this.full.x[1] ? 0.05 : 0;
    const x = isZoomed ? { min: from, max: to, isLog: isLogX } : roomyRange(...this.full.x, isLogX, room);
    return { x: { ...x, kind }, y: { ...roomyRange(...ys, isLogY, 0.05), kind: "number" } };
  }

  // Keep the widest range of x, as the live page has only the curves within a zoom.
  widened(extent, key) {
    const before = this.widest?.key === key ? this.widest.x : extent.x;
    this.widest = { key, x: [Math.min(before[0], extent.x[0]), Math.max(before[1], extent.x[1])] };
    return extent;
  }

  drawOverlay() {
    if (!this.view) return;
    const { width, height, left, top, right, bottom } = this.view;
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    const lines = this.emphasised === null ? [] : this.lines.filter(({ index }) => index === this.emphasised);
    parts.push(...lines.map((line) => emphasisOf(line, this.view)));
    if (this.drag?.isMoving) {
      const [x, until] = [Math.min(this.drag.from, this.drag.to), Math.max(this.drag.from, this.drag.to)];
      parts.push(s("rect", { class: "chart-select", x, y: top, width: until - x, height: bottom - top }));
    } else if (this.at !== undefined && this.at >= left && this.at <= right) {
      parts.push(s("path", { class: "chart-cross", d: `M${this.at} ${top}V${bottom}` }));
      if (this.point) parts.push(dotOf(this.point, this.view));
    }
    this.overlay.replaceChildren(...parts);
  }

  focus() {
    this.element.focus({ preventScroll: true });
  }

  // Emphasise the lines with an index; null none.
  emphasise(index) {
    if (index === this.emphasised) return;
    this.emphasised = index;
    this.redrawOverlay();
  }

  // The pointer

  move(event) {
    if (!this.view) return;
    const box = this.element.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (this.drag) {
      this.drag.to = Math.min(Math.max(x, this.view.left), this.view.right);
      if (Math.abs(this.drag.to - this.drag.from) > 5 && !this.drag.isMoving) {
        this.drag.isMoving = true;
        this.element.setPointerCapture(event.pointerId);
      }
    }
    [this.at, this.atY] = [x, y];
    this.follow();
  }

  pointAt(x, y) {
    const near = nearLines(this.lines, this.view, x, y);
    this.point = near[0] && near[0].away <= CHART_NEAR ? near[0] : null;
    this.onPoint(this.point);
    this.redrawOverlay();
    this.showCursor(x, near);
  }

  showCursor(x, near) {
    const { left, right, scales, width } = this.view;
    this.cursor.hidden = x < left || x > right || Boolean(this.drag?.isMoving);
    if (this.cursor.hidden) return;
    const shown = this.isLarge ? near.slice(0, 8).sort((one, other) => one.y - other.y) : this.point ? [this.point] : [];
    const place = this.point ? this.point.line.x[this.point.index] : scales.x.value(x);
    replace(this.cursor, h("p", { class: "chart-place" }, axisText(place, this.view.ranges.x)), shown.map(({ line, index }) =>
      h("p", { class: line === this.point?.line ? "is-near" : "" }, swatch(line.index), h("b", {}, numberText(line.y[index], 5)),
        bandText(line, index), " ", this.nameOf(line))));
    const isRight = x > width / 2;
    this.cursor.style.left = isRight ? "auto" : `${x + 12}px`;
    this.cursor.style.right = isRight ? `${width - x + 12}px` : "auto";
  }

  leave() {
    this.at = undefined;
    this.point = null;
    this.cursor.hidden = true;
    this.onPoint(null);
    this.redrawOverlay();
  }

  down(event) {
    if (event.button !== 0 || !this.view || event.pointerType === "touch") return;
    const x = event.clientX - this.element.getBoundingClientRect().left;
    if (x >= this.view.left && x <= this.view.right) this.drag = { from: x, to: x, isMoving: false };
  }

  up(event) {
    const { drag } = this;
    this.drag = null;
    if (!event || !drag?.isMoving) return;
    const ends = [drag.from, drag.to].map(this.view.scales.x.value).sort((one, other) => one - other);
    if (Math.abs(drag.to - drag.from) > 5) this.onZoom(...ends);
    this.redrawOverlay();
  }

  press(event) {
    const move = CHART_KEYS[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.go(move);
  }

  // Move the range of x: "in", "out", "left", "right", or "all".
  go(move, about = 0.5) {
    if (move === "all" || !this.view) {
      this.onZoom(null, null);
      return;
    }
    const [factor, shift] = CHART_MOVES[move];
    const { min, max, isLog } = this.view.ranges.x;
    const [low, high] = [scaleFold(min, isLog), scaleFold(max, isLog)];
    const length = (high - low) * factor;
    const start = low + (high - low) * (shift + about * (1 - factor));
    const widest = this.widest.x.map((value) => scaleFold(value, isLog));
    if (factor > 1 && length >= widest[1] - widest[0]) this.onZoom(null, null);
    else this.onZoom(scaleUnfold(start, isLog), scaleUnfold(start + length, isLog));
  }

  close() {
    this.sizes.disconnect();
    this.canvas?.close();
  }
}

function isSameLine(one, other) {
  return one.x === other.x && one.y === other.y && one.index === other.index;
}

function bandText(line, index) {
  return line.low ? ` (${numberText(line.low[index], 3)} to ${numberText(line.high[index], 3)})` : "";
}

const chartRuler = document.createElement("canvas").getContext("2d");

function chartTextWidth(text) {
  chartRuler.font = TICK_FONT;
  return chartRuler.measureText(text).width;
}

function chartTicks(room, most) {
  return Math.min(Math.max(2, Math.floor(room)), most);
}

// Return what is drawn: the place of the axes, which depends on the widest text of a tick, and the scales.
export function pictureOf({ width, height, lines = [], isLarge = false, side = 0 }, ranges) {
  const yTicks = ticksOf(ranges.y, chartTicks((height - 20) / 32, 8));
  const widest = yTicks.reduce((most, { text }) => Math.max(most, chartTextWidth(text)), 12);
  const outer = { left: Math.ceil(widest) + 8 + side, right: isLarge ? 22 : 18, top: 8, bottom: 22 };
  const [left, right, top, bottom] = [outer.left, width - outer.right, outer.top, height - outer.bottom];
  const scales = { x: scaleOf(ranges.x, left, right), y: scaleOf(ranges.y, bottom, top) };
  const xTicks = ticksOf(ranges.x, chartTicks((right - left) / (ranges.x.kind === "number" ? 52 : 64), 10));
  const placed = (ticks, scale, from, to) => ticks.map((tick) => ({ ...tick, at: scale.at(tick.value) }))
    .map((tick) => ({ ...tick, share: (tick.at - from) / (to - from) })).filter(({ share }) => share >= -1e-6 && share <= 1 + 1e-6);
  return {
    width, height, left, right, top, bottom, outer, lines, ranges, scales, atX: scales.x.at, atY: scales.y.at,
    from: ranges.x.min, to: ranges.x.max, ticks: { x: placed(xTicks, scales.x, left, right), y: placed(yTicks, scales.y, bottom, top) },
  };
}

function emphasisOf(line, view) {
  const inner = svgInner(view);
  const [path, ...marks] = svgLine(line, view, "chart-strong");
  const halo = path.cloneNode();
  halo.removeAttribute("stroke-dasharray");
  halo.setAttribute("class", "chart-halo");
  inner.append(halo, path, ...marks);
  return inner;
}

function dotOf({ line, index }, view) {
  return s("circle", { class: `chart-dot tint-${(line.index % 8) + 1}`, cx: view.atX(line.x[index]), cy: view.atY(line.y[index]), r: 4 });
}

// Return the lines next to a place, the nearest first: [{line, index, y in pixels, away}].
function nearLines(lines, { scales, from, to, atX, atY }, x, y) {
  const place = scales.x.value(x);
  const near = [];
  for (const line of lines) {
    const index = indexNear(line, place);
    if (index < 0 || line.x[index] < from || line.x[index] > to) continue;
    const at = { x: atX(line.x[index]), y: Number.isFinite(line.y[index]) ? atY(line.y[index]) : NaN };
    if (Number.isNaN(at.y) || Number.isNaN(at.x)) continue;
    near.push({ line, index, y: at.y, away: Math.hypot(at.y - y, Math.max(0, Math.abs(at.x - x) - 12)) });
  }
  return near.sort((one, other) => one.away - other.away);
}

function summaryText(title, lines, { x, y }) {
  return `${title}: ${counted(lines.length, "curve")}, x from ${axisText(x.min, x)} to ${axisText(x.max, x)}, ` +
    `values from ${numberText(y.min, 3)} to ${numberText(y.max, 3)}`;
}
