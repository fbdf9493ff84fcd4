// What the charts of curves show: the options in the address, the entries of the legend, and the lines of a column.

import { lineOf, meanLine } from "./lines.js";
import { keyOf, labelsOf } from "./rundata.js";
import { valueText } from "./format.js";
import { currentState, listOf } from "./state.js";
import { patiently, SOURCE_SILENT } from "./source.js";

export const CURVE_AXES = { step: "number", time: "time", relative: "span" };
const CURVE_CHUNK = 100;
const CURVE_PAUSE = 2000;

// Return the options of curves. Those that the address lacks have their defaults.
export function curveOptions(page, rows) {
  const { options } = currentState();
  const names = page.data.seriesOf(rows).map(([name]) => name);
  const wanted = options.series ?? "scalars";
  const series = names.includes(wanted) ? wanted : names[0] ?? wanted;
  const [from, to] = [options.from, options.to].map((text) => (text === undefined || text === "" ? undefined : Number(text)));
  const isZoomed = Number.isFinite(from) && Number.isFinite(to) && from < to;
  return {
    series, names, x: Object.hasOwn(CURVE_AXES, options.x) ? options.x : "step",
    smooth: Math.min(Math.max(Number(options.smooth) || 0, 0), 0.99),
    isLogX: (options.log ?? "").includes("x") && options.x !== "time", isLogY: (options.log ?? "").includes("y"),
    group: options.group === undefined ? page.data.json.group ?? [] : listOf(options.group),
    band: options.band === "std" ? "std" : "minmax", find: options.find ?? "",
    from: isZoomed ? from : undefined, to: isZoomed ? to : undefined,
  };
}

// Return the options of a range of x, without digits that no pixel shows.
export function zoomOptions(from, to) {
  if (from === null) return { from: null, to: null };
  const places = Math.min(Math.max(3 - Math.floor(Math.log10(to - from)), 0), 12);
  return { from: Number(from.toFixed(places)), to: Number(to.toFixed(places)) };
}

// Return the entries of the legend: [{index, rows, parts, name}], one of each run, or of each group of runs that differ
// only in the parameters of `group`. A run without any of these is no repetition of another one.
export function curveEntries(page, rows, { group }) {
  const { data } = page;
  if (group.length === 0) {
    return labelsOf(data, rows).map((label, index) => ({ index, rows: [label.row], parts: label.parts, name: label.name }));
  }
  const columns = data.differing(rows, group, { ignoresMissing: false });
  const repeated = group.map((name) => data.byName.get(name)).filter(Boolean);
  const hasValue = (column, row) => (column.values[row] ?? null) !== null;
  const groups = new Map();
  for (const row of rows) {
    const isRepetition = repeated.some((column) => hasValue(column, row));
    const key = isRepetition ? columns.map((column) => keyOf(column.values[row])).join("\n") : row;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  const usual = data.differing(rows, group);
  return [...groups.values()].map((members, index) => {
    const [row] = members;
    const isAlone = members.length === 1;
    const [own, others] = [usual, isAlone ? [] : columns].map((some) => some.filter((column) => hasValue(column, row)));
    const name = groups.size === 1 && !isAlone ? "All" : data.shortName(row);
    const shown = own.length > 0 ? own : others;
    return { index, rows: members, name, parts: shown.slice(0, 4).map((column) => [column.name, column.values[row]]) };
  });
}

// Return the position of each row in the legend: by it, its colour and dash are chosen.
export function entryIndexes(entries) {
  return new Map(entries.flatMap(({ index, rows }) => rows.map((row) => [row, index])));
}

export function entryText({ parts, name, rows }) {
  const text = parts.length ? parts.map(([key, value]) => `${key}=${valueText(value)}`).join(" ") : name;
  return rows.length > 1 ? `${text} (${rows.length} runs)` : text;
}

// The curves of one column, read for the requested runs that are not there yet.
export class ColumnData {
  constructor(page, column) {
    Object.assign(this, { page, column, key: "", lines: new Map(), problems: [], error: "", reading: 0, isReading: false });
  }

  // Read what is missing, or `again` for these ids. Calls `tell` when lines have come. What was read with other options
  // stays until the new curves are complete.
  async read(options, rows, tell, again = []) {
    const { data, source } = this.page;
    const having = new Set(data.json.series?.[options.series]?.runs ?? []);
    const ids = rows.filter((row) => having.has(row)).map((row) => data.ids[row]);
    const zoom = source.live ? [options.from, options.to] : [];
    const key = JSON.stringify([options.series, options.x, options.smooth, ...zoom]);
    const isOther = key !== this.key;
    const missing = ids.filter((id) => isOther || !this.lines.has(id) || again.includes(id));
    if (missing.length === 0) return;
    const wanted = JSON.stringify([key, missing]);
    if (this.isReading && wanted === this.wanted && again.length === 0) return;
    this.wanted = wanted;
    const reading = ++this.reading;
    const lines = isOther ? new Map() : this.lines;
    if (isOther && this.lines.size === 0) this.lines = lines;
    this.isReading = true;
    try {
      await this.readChunks({ options, missing, lines, tell, isCurrent: () => reading === this.reading });
      if (reading !== this.reading) return;
      Object.assign(this, { key, lines, error: "" });
    } catch (error) {
      if (reading !== this.reading) return;
      this.error = error.message;
    }
    this.isReading = false;
    tell();
  }

  async readChunks({ options, missing, lines, tell, isCurrent }) {
    const { source } = this.page;
    const { series, x, smooth, from, to } = options;
    let next = 0;
    for (let start = 0; start < missing.length; start += CURVE_CHUNK) {
      const runs = missing.slice(start, start + CURVE_CHUNK);
      const query = source.live ? { runs, x, smooth, from, to } : { runs, smooth };
      const found = await patiently(source.curves(series, this.column, query), () => {
        if (!isCurrent()) return;
        this.error = SOURCE_SILENT;
        tell();
      });
      if (!isCurrent()) return;
      for (const id of runs) lines.set(id, []);
      for (const curve of found.curves) lines.get(curve.run)?.push(lineOf(curve, x));
      this.problems = found.problems ?? [];
      if (start + CURVE_CHUNK < missing.length) {
        if (lines === this.lines && performance.now() > next) {
          tell();
          next = performance.now() + CURVE_PAUSE;
        }
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
  }

  // Forget the lines of runs that are not shown any more, or all.
  drop(keep = new Set()) {
    for (const id of this.lines.keys()) if (!keep.has(id)) this.lines.delete(id);
    if (this.lines.size === 0) this.key = "";
  }

  // Return the lines to draw: those of the entries that were read, with their index.
  drawn(entries, { group, band }) {
    const { ids } = this.page.data;
    const lines = [];
    for (const { index, rows } of entries) {
      const own = rows.flatMap((row) => this.lines.get(ids[row]) ?? []).filter((line) => line.points > 0);
      if (own.length === 0) continue;
      if (group.length > 0) lines.push({ ...this.mean(index, own, band), index });
      else for (const line of own) lines.push(Object.assign(line, { index }));
    }
    return lines;
  }

  // A mean is computed again only if one of its lines is another one.
  mean(index, members, band) {
    this.means ??= new Map();
    const known = this.means.get(index);
    const isSame = known?.band === band && known.members.length === members.length
      && known.members.every((line, place) => line === members[place]);
    if (isSame) return known.line;
    const line = meanLine(`group ${index}`, members, band);
    this.means.set(index, { band, members, line });
    return line;
  }
}

// Return the line with the most rows of those that were thinned.
export function thinnedLine(lines) {
  return lines.filter((line) => line.isThinned).sort((one, other) => other.rows - one.rows)[0];
}
