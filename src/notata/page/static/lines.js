// Curves as lines of a chart: their x and y, means and bands of groups, ranges, and the points that a pixel needs.

// Return a line of a curve. `x` is "step", "time" (of the day) or "relative" (seconds since the start).
export function lineOf(curve, x) {
  const start = x === "time" ? curve.start ?? 0 : 0;
  const given = x === "step" ? curve.step : curve.time;
  const line = newLine(curve.run + (curve.rank ? ` ${curve.rank}` : ""), given.length);
  for (let index = 0; index < given.length; index++) {
    line.x[index] = given[index] === null ? NaN : start + given[index];
    line.y[index] = curve.y[index] ?? NaN;
  }
  return Object.assign(finishLine(line), {
    id: curve.run, rank: curve.rank, rows: curve.rows, points: curve.y.length, isThinned: curve.thinned,
  });
}

function newLine(key, length) {
  return { key, x: new Float64Array(length), y: new Float64Array(length), low: null, high: null };
}

// Find out what is the same for every way to draw a line.
function finishLine(line) {
  line.isSorted = true;
  for (let index = 1; index < line.x.length; index++) if (!(line.x[index] >= line.x[index - 1])) line.isSorted = false;
  return Object.assign(line, statsBetween(line));
}

// Return the first, smallest and largest finite value between two places of x, NaN if there is none; and the last value,
// which may be NaN or infinite: a run that diverged must not look like one that did not.
export function statsBetween(line, from = -Infinity, to = Infinity) {
  const stats = { first: NaN, last: NaN, min: NaN, max: NaN };
  const [start, end] = indexesBetween(line, from, to, 0);
  for (let index = start; index < end; index++) {
    const value = line.y[index];
    if (line.x[index] < from || line.x[index] > to) continue;
    stats.last = value;
    if (!Number.isFinite(value)) continue;
    if (Number.isNaN(stats.first)) stats.first = value;
    if (!(value >= stats.min)) stats.min = value;
    if (!(value <= stats.max)) stats.max = value;
  }
  return stats;
}

// Return the range of the values that can be drawn, of those between two places of x: {x: [low, high], y: …, unshown},
// with Infinity and -Infinity if there are none. `unshown` is the number of values that a log axis lacks.
export function extentOf(lines, { from = -Infinity, to = Infinity, isLogX, isLogY }) {
  const extent = { x: [Infinity, -Infinity], y: [Infinity, -Infinity], unshown: 0 };
  for (const line of lines) {
    if (from === -Infinity && to === Infinity && isAllShown(line, isLogX, isLogY)) {
      extendBy(extent, line.x[0], line.min, line.max);
      extendBy(extent, line.x[line.x.length - 1], line.min, line.max);
      continue;
    }
    const [start, end] = indexesBetween(line, from, to, 0);
    for (let index = start; index < end; index++) {
      const x = line.x[index];
      if (x < from || x > to) continue;
      const [low, high] = line.low ? [line.low[index], line.high[index]] : [line.y[index], line.y[index]];
      const isShown = !(isLogX && x <= 0) && !(isLogY && high <= 0);
      if (!isShown) extent.unshown++;
      else extendBy(extent, x, isLogY && low <= 0 ? high : low, high);
    }
  }
  return extent;
}

// Check whether the range of a line is known without a look at its points.
function isAllShown(line, isLogX, isLogY) {
  const isWhole = !line.low && line.isSorted && line.x.length > 0 && !Number.isNaN(line.min);
  return isWhole && !(isLogX && line.x[0] <= 0) && !(isLogY && line.min <= 0);
}

function extendBy({ x: xs, y: ys }, x, low, high) {
  if (!Number.isFinite(x) || Number.isNaN(low)) return;
  if (x < xs[0]) xs[0] = x;
  if (x > xs[1]) xs[1] = x;
  if (Number.isFinite(low) && low < ys[0]) ys[0] = low;
  if (Number.isFinite(high) && high > ys[1]) ys[1] = high;
}

// Return the first index and the one after the last of the points between two places, and `more` points on each side.
export function indexesBetween(line, from, to, more = 1) {
  if (!line.isSorted || (from === -Infinity && to === Infinity)) return [0, line.x.length];
  return [Math.max(0, indexFrom(line.x, from) - more), Math.min(line.x.length, indexFrom(line.x, to, true) + more)];
}

// Return the first index whose value is not below a place, or is above it.
function indexFrom(values, place, isAbove = false) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < place || (isAbove && values[middle] === place)) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Return the index of the point with a value next to a place, or -1.
export function indexNear(line, place) {
  if (!line.isSorted) return indexNearest(line, place, 0, line.x.length);
  const at = indexFrom(line.x, place);
  let [before, after] = [at - 1, at];
  while (before >= 0 && Number.isNaN(line.y[before])) before--;
  while (after < line.x.length && Number.isNaN(line.y[after])) after++;
  if (after >= line.x.length) return before;
  return before < 0 || line.x[after] - place < place - line.x[before] ? after : before;
}

function indexNearest(line, place, start, end) {
  let [best, distance] = [-1, Infinity];
  for (let index = start; index < end; index++) {
    const away = Math.abs(line.x[index] - place);
    if (away < distance && !Number.isNaN(line.y[index])) [best, distance] = [index, away];
  }
  return best;
}

// Draw a line by a pen with moveTo, lineTo, dot and edge (an infinity). Of the points that fall on the same column of
// `column` pixels, the first, the smallest, the largest, and the last are drawn, so that the picture stays the same.
export function traceLine(line, { atX, atY, from, to, column = 1 }, pen) {
  const [start, end] = indexesBetween(line, from, to);
  const points = new LineColumn(pen);
  for (let index = start; index < end; index++) {
    const x = atX(line.x[index]);
    const value = line.y[index];
    if (value === Infinity || value === -Infinity) pen.edge?.(x, value > 0);
    const y = Number.isFinite(value) ? atY(value) : NaN;
    if (Number.isNaN(x) || Number.isNaN(y)) points.gap();
    else points.add(Math.floor(x / column), x, y);
  }
  points.gap();
}

// The points of one column of pixels, of which at most four are drawn.
class LineColumn {
  constructor(pen) {
    this.pen = pen;
    this.place = NaN;
    this.count = 0;
  }

  add(place, x, y) {
    if (place === this.place && this.count) {
      this.held = true;
      [this.lastX, this.lastY] = [x, y];
      if (y < this.lowY) [this.lowX, this.lowY, this.lowAt] = [x, y, this.count];
      if (y > this.highY) [this.highX, this.highY, this.highAt] = [x, y, this.count];
      this.count++;
      return;
    }
    this.flush();
    if (this.isOpen) this.pen.lineTo(x, y);
    else this.pen.moveTo(x, y);
    this.isAlone = !this.isOpen;
    this.isOpen = true;
    this.place = place;
    this.count = 1;
    this.lastX = this.lowX = this.highX = x;
    this.lastY = this.lowY = this.highY = y;
    this.lowAt = this.highAt = 0;
  }

  flush() {
    if (!this.held) return;
    this.held = false;
    const isLowFirst = this.lowAt < this.highAt;
    if (isLowFirst) this.reach(this.lowX, this.lowY, this.lowAt);
    this.reach(this.highX, this.highY, this.highAt);
    if (!isLowFirst) this.reach(this.lowX, this.lowY, this.lowAt);
    if (this.lowAt < this.count - 1 && this.highAt < this.count - 1) this.pen.lineTo(this.lastX, this.lastY);
  }

  reach(x, y, at) {
    if (at > 0) this.pen.lineTo(x, y);
  }

  gap() {
    if (this.isOpen && this.isAlone && this.count === 1) this.pen.dot(this.lastX, this.lastY);
    this.flush();
    this.isOpen = false;
    this.count = 0;
    this.place = NaN;
  }
}

// Return the mean of lines, and a band about it: "minmax" or "std" (one standard deviation). Each line counts between its
// first and its last point, also between two of its points.
export function meanLine(key, lines, band) {
  if (lines.length === 1) return { ...lines[0], key, members: lines };
  const grid = commonGrid(lines);
  const mean = newLine(key, grid.length);
  [mean.low, mean.high] = [new Float64Array(grid.length), new Float64Array(grid.length)];
  const sums = [0, 1, 2, 3, 4].map(() => new Float64Array(grid.length));
  sums[3].fill(Infinity);
  sums[4].fill(-Infinity);
  for (const line of lines) addToSums(sums, grid, line);
  grid.forEach((x, index) => {
    const [count, value, squares, low, high] = sums.map((values) => values[index]);
    const half = count > 1 ? Math.sqrt(squares / (count - 1)) : 0;
    mean.x[index] = x;
    mean.y[index] = count ? value : NaN;
    mean.low[index] = !count ? NaN : band === "std" ? value - half : low;
    mean.high[index] = !count ? NaN : band === "std" ? value + half : high;
  });
  const rows = lines.reduce((most, line) => Math.max(most, line.rows), 0);
  return Object.assign(finishLine(mean), { members: lines, rows, points: grid.length, isThinned: lines.some((line) => line.isThinned) });
}

const LINE_GRID = 2000;

// Return the places of x of all lines, or if there are very many, as many in equal distances.
function commonGrid(lines) {
  const places = new Set();
  for (const line of lines) for (const x of line.x) if (Number.isFinite(x)) places.add(x);
  const grid = Float64Array.from(places).sort();
  if (grid.length <= LINE_GRID) return grid;
  const [first, last] = [grid[0], grid[grid.length - 1]];
  return Float64Array.from({ length: LINE_GRID }, (_, index) => first + ((last - first) * index) / (LINE_GRID - 1));
}

// Add a line to the count, the mean, the sum of squares about it (Welford's method), the smallest and the largest value.
function addToSums([counts, means, squares, lows, highs], grid, line) {
  const finite = finitePoints(line);
  let at = 0;
  for (let index = 0; index < grid.length; index++) {
    const x = grid[index];
    while (at < finite.length - 1 && finite[at + 1][0] <= x) at++;
    const value = between(finite, at, x);
    if (Number.isNaN(value)) continue;
    counts[index]++;
    const away = value - means[index];
    means[index] += away / counts[index];
    squares[index] += away * (value - means[index]);
    if (value < lows[index]) lows[index] = value;
    if (value > highs[index]) highs[index] = value;
  }
}

function finitePoints(line) {
  const points = [];
  line.x.forEach((x, index) => Number.isFinite(line.y[index]) && Number.isFinite(x) && points.push([x, line.y[index]]));
  return line.isSorted ? points : points.sort(([one], [other]) => one - other);
}

function between(points, at, x) {
  if (!points.length || x < points[0][0] || x > points[points.length - 1][0]) return NaN;
  const [x0, y0] = points[at];
  if (x0 === x || at === points.length - 1) return y0;
  const [x1, y1] = points[at + 1];
  return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
}
