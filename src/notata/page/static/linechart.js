// How a chart is drawn: by uPlot on a canvas if it is there, else as SVG. Both draw the same picture:
// {width, height, left, top, right, bottom, ticks: {x, y} with `at`, atX, atY, from, to, lines with `index`}.

import { h, s } from "./dom.js";
import { traceLine } from "./lines.js";
import { swatchOf } from "./swatch.js";

const LINECHART_FRAME = 40;
// Lines and points at the edge of the plot are not cut in half.
const EDGE_ROOM = 3;
const LINECHART_VERTICES = 800_000;
const LINECHART_MANY = 100;

export const TICK_FONT = '11px system-ui, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';

// Return what draws into an element: {draw(picture), close()}.
export function openCanvas(host) {
  return window.uPlot ? new UplotCanvas(host) : new SvgCanvas(host);
}

// Work through a list in slices, so that the page keeps answering. A new list ends the work on the previous one. The
// browser draws after a slice, so only the time between two frames tells what the slice took.
class SlicedWork {
  constructor() {
    this.frame = 0;
    this.size = 40;
  }

  start(items, work) {
    this.stop();
    let next = 0;
    let before = 0;
    const go = (now) => {
      if (before) this.size = Math.min(Math.max(Math.round(this.size * (now - before > LINECHART_FRAME ? 0.6 : 1.3)), 5), 1000);
      before = now;
      const end = next + this.size;
      while (next < items.length && next < end) work(items[next++]);
      this.frame = next < items.length ? requestAnimationFrame(go) : 0;
    };
    go(0);
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }
}

// uPlot draws the axes and holds the canvas. The curves are drawn in its hook: those of different runs have different
// x, and uPlot's own series would need one x with the values of all runs.
class UplotCanvas {
  constructor(host) {
    this.host = host;
    this.work = new SlicedWork();
    this.plot = null;
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.plot?.redraw(false, false);
    this.scheme.addEventListener("change", this.recolour);
  }

  draw(picture) {
    this.picture = picture;
    if (!this.plot) {
      this.plot = new window.uPlot(this.options(), [[0, 1], [null, null]], this.host);
      return;
    }
    if (this.plot.width !== picture.width || this.plot.height !== picture.height) this.plot.setSize(picture);
    this.plot.redraw(false, true);
  }

  options() {
    const { width, height } = this.picture;
    const axis = (name, size) => ({
      font: TICK_FONT, size, gap: 5, ticks: { show: false }, grid: { stroke: () => cssColour("--grid"), width: 1 },
      stroke: () => cssColour("--faint"), splits: () => this.picture.ticks[name].map(({ share }) => share),
      values: () => this.picture.ticks[name].map(({ text }) => text),
    });
    const outer = (name) => () => this.picture.outer[name];
    return {
      width, height, legend: { show: false }, cursor: { show: false }, padding: [outer("top"), outer("right"), () => 0, () => 0],
      scales: { x: { time: false, range: () => [0, 1] }, y: { range: () => [0, 1] } },
      axes: [axis("x", outer("bottom")), axis("y", outer("left"))],
      series: [{}, { show: false }],
      hooks: { draw: [() => this.drawLines()] },
    };
  }

  drawLines() {
    this.work.start(drawnParts(this.picture), canvasDrawer(this.plot.ctx, this.picture));
  }

  close() {
    this.work.stop();
    this.scheme.removeEventListener("change", this.recolour);
    this.plot?.destroy();
  }
}

// Return what is drawn in turn: the bands, and above them the lines.
function drawnParts({ lines }) {
  return [...lines.filter((line) => line.low).map((line) => ({ line, isBand: true })), ...lines.map((line) => ({ line }))];
}

// Return a function that draws a part on a canvas.
function canvasDrawer(ctx, picture) {
  const pixels = devicePixelRatio || 1;
  const { left, top, right, bottom } = picture;
  const thin = thinnedPicture(picture);
  const colours = new Map();
  for (const { index } of picture.lines) {
    const { colour } = swatchOf(index);
    if (!colours.has(colour)) colours.set(colour, cssColour(colour));
  }
  return ({ line, isBand }) => {
    ctx.save();
    ctx.setTransform(pixels, 0, 0, pixels, 0, 0);
    ctx.beginPath();
    ctx.rect(left - EDGE_ROOM, top - EDGE_ROOM, right - left + 2 * EDGE_ROOM, bottom - top + 2 * EDGE_ROOM);
    ctx.clip();
    ctx.strokeStyle = ctx.fillStyle = colours.get(swatchOf(line.index).colour);
    if (isBand) drawBand(ctx, line, thin);
    else drawLine(ctx, line, thin);
    ctx.restore();
  };
}

// Very many curves lie on each other: their smallest and largest values are then those of a few pixels.
function thinnedPicture(picture) {
  const { left, right, lines } = picture;
  const least = lines.length > LINECHART_MANY ? 2 : 1;
  return { ...picture, column: Math.max(least, (4 * (right - left) * lines.length) / LINECHART_VERTICES) };
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawLine(ctx, line, picture) {
  const pen = new PathPen(new Path2D(), new Path2D(), picture);
  traceLine(line, picture, pen);
  ctx.lineWidth = picture.lines.length > LINECHART_MANY ? 1 : 1.5;
  ctx.lineJoin = "round";
  ctx.setLineDash(swatchOf(line.index).dash);
  ctx.stroke(pen.path);
  ctx.fill(pen.marks);
}

function drawBand(ctx, line, picture) {
  ctx.globalAlpha = 0.18;
  ctx.fill(traceBand(line, picture, new Path2D()));
}

// A pen on a canvas.
class PathPen {
  constructor(path, marks, { top, bottom }) {
    Object.assign(this, { path, marks, top, bottom });
  }

  moveTo(x, y) {
    this.path.moveTo(x, y);
  }

  lineTo(x, y) {
    this.path.lineTo(x, y);
  }

  dot(x, y) {
    this.marks.moveTo(x + 2.5, y);
    this.marks.arc(x, y, 2.5, 0, 7);
  }

  // An infinity is a triangle at the edge.
  edge(x, isAbove) {
    const [tip, base] = isAbove ? [this.top, this.top + 7] : [this.bottom, this.bottom - 7];
    this.marks.moveTo(x, tip);
    this.marks.lineTo(x - 4, base);
    this.marks.lineTo(x + 4, base);
    this.marks.closePath();
  }
}

// A path of SVG with the methods of one of a canvas.
class TextPath {
  constructor() {
    this.parts = [];
  }

  moveTo(x, y) {
    this.parts.push(`M${x.toFixed(1)} ${y.toFixed(1)}`);
  }

  lineTo(x, y) {
    this.parts.push(`L${x.toFixed(1)} ${y.toFixed(1)}`);
  }

  arc(x, y, radius) {
    this.parts.push(`a${radius} ${radius} 0 1 0 ${-2 * radius} 0a${radius} ${radius} 0 1 0 ${2 * radius} 0`);
  }

  closePath() {
    this.parts.push("Z");
  }

  toString() {
    return this.parts.join("");
  }
}

// Draw the band of a mean into a path: along its upper side, and back along its lower side.
function traceBand(line, { atX, atY, bottom }, path) {
  const close = (start, end) => {
    for (let index = end; index >= start; index--) path.lineTo(atX(line.x[index]), bandY(line.low[index]));
    path.closePath();
  };
  const bandY = (value) => {
    const y = atY(value);
    return Number.isNaN(y) ? bottom : y;
  };
  let start = -1;
  for (let index = 0; index < line.x.length; index++) {
    const isShown = Number.isFinite(line.high[index]) && !Number.isNaN(atX(line.x[index]));
    if (!isShown) {
      if (start >= 0) close(start, index - 1);
      start = -1;
      continue;
    }
    path[start < 0 ? "moveTo" : "lineTo"](atX(line.x[index]), bandY(line.high[index]));
    if (start < 0) start = index;
  }
  if (start >= 0) close(start, line.x.length - 1);
  return path;
}

// Return the elements of a line in SVG.
export function svgLine(line, picture, className = "chart-line") {
  const pen = new PathPen(new TextPath(), new TextPath(), picture);
  traceLine(line, picture, pen);
  const { dash, tint } = swatchOf(line.index);
  const path = s("path", { class: `${className} ${tint}`, d: pen.path, "stroke-dasharray": dash.length ? dash.join(" ") : null });
  return pen.marks.parts.length ? [path, s("path", { class: `chart-mark ${tint}`, d: pen.marks })] : [path];
}

// The chart without a library: SVG, and for very many curves a canvas, as browsers draw large pictures of SVG slowly.
class SvgCanvas {
  constructor(host) {
    this.svg = s("svg", { class: "chart-svg", "aria-hidden": "true" });
    this.canvas = h("canvas", { class: "chart-many", "aria-hidden": "true" });
    host.append(this.svg, this.canvas);
    this.work = new SlicedWork();
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.picture && this.draw(this.picture);
    this.scheme.addEventListener("change", this.recolour);
  }

  draw(picture) {
    const { width, height, lines } = picture;
    this.picture = picture;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    const isMany = lines.length > LINECHART_MANY;
    const inner = svgInner(picture);
    this.svg.replaceChildren(...svgAxes(picture), inner);
    this.canvas.hidden = !isMany;
    this.work.start(drawnParts(picture), isMany ? this.manyDrawer(picture) : ({ line, isBand }) => {
      const { tint } = swatchOf(line.index);
      if (isBand) inner.append(s("path", { class: `chart-band ${tint}`, d: traceBand(line, picture, new TextPath()) }));
      else inner.append(...svgLine(line, picture));
    });
  }

  manyDrawer(picture) {
    const pixels = devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [picture.width * pixels, picture.height * pixels];
    return canvasDrawer(this.canvas.getContext("2d"), picture);
  }

  close() {
    this.work.stop();
    this.scheme.removeEventListener("change", this.recolour);
    this.svg.remove();
    this.canvas.remove();
  }
}

// Return an element whose content keeps the places of the picture, and is cut at the edges of the plot.
export function svgInner({ left, top, right, bottom }, className = "") {
  const [x, y, width, height] = [left - EDGE_ROOM, top - EDGE_ROOM, right - left + 2 * EDGE_ROOM, bottom - top + 2 * EDGE_ROOM];
  return s("svg", { class: `chart-inner ${className}`, x, y, width, height, viewBox: `${x} ${y} ${width} ${height}` });
}

// Return the elements of the grid and of the texts of both axes.
export function svgAxes({ left, top, right, bottom, ticks }) {
  const grid = new TextPath();
  for (const { at } of ticks.x) [[at, top], [at, bottom]].forEach(([x, y], end) => (end ? grid.lineTo(x, y) : grid.moveTo(x, y)));
  for (const { at } of ticks.y) [[left, at], [right, at]].forEach(([x, y], end) => (end ? grid.lineTo(x, y) : grid.moveTo(x, y)));
  return [
    s("path", { class: "chart-grid", d: grid }),
    ...ticks.x.map(({ at, text }) => s("text", { class: "chart-tick", x: at, y: bottom + 15, "text-anchor": "middle" }, text)),
    ...ticks.y.map(({ at, text }) => s("text", { class: "chart-tick", x: left - 6, y: at + 4, "text-anchor": "end" }, text)),
  ];
}
