// The runs of the page: the columns of `runs`, by name and by row.

import { restored } from "./format.js";

const STATUSES = ["running", "complete", "failed", "died", "replacing", "unreadable"];

export class RunData {
  constructor(json) {
    this.json = json;
    this.count = json.count;
    this.columns = json.columns;
    for (const column of this.columns) restored(column.values, column.nonfinite);
    this.byName = new Map(this.columns.map((column) => [column.name, column]));
    this.byPath = new Map(this.columns.map((column) => [column.path, column]));
    this.ids = this.byPath.get("id").values;
    this.rowOf = new Map(this.ids.map((id, row) => [id, row]));
    this.made = Date.parse(json.made);
  }

  // The time by which ages are computed: in a report, when it was made.
  get now() {
    return this.json.live ? Date.now() : this.made;
  }

  value(row, name) {
    return this.byName.get(name)?.values[row] ?? undefined;
  }

  fact(row, path) {
    return this.byPath.get(path)?.values[row] ?? undefined;
  }

  // Return the id that a run was given, if no other run of the page has it too, without the words that all begin with.
  shortName(row) {
    this.shortNames ??= rundataShortNames(this.byPath.get("run_id").values, this.ids);
    return this.shortNames[row];
  }

  // Return the number of runs of each status.
  counts(rows = this.ids.keys()) {
    const counts = new Map();
    for (const row of rows) {
      const status = this.fact(row, "status");
      counts.set(status, (counts.get(status) ?? 0) + 1);
    }
    return new Map([...counts].sort(([one], [other]) => STATUSES.indexOf(one) - STATUSES.indexOf(other)));
  }

  // Return the parameters that differ between rows, without some of them. With `ignoresMissing` a missing value is equal
  // to any other.
  differing(rows, without = [], { ignoresMissing = true } = {}) {
    const left = new Set(without);
    return this.columns.filter(
      (column) => column.kind === "param" && !left.has(column.name) && !isConstant(column, rows, { ignoresMissing }),
    );
  }

  // Return the columns of a series in two parts: those of which the table has a value in one of these rows, and the others.
  columnsOf(series, rows) {
    const columns = this.json.series?.[series]?.columns ?? [];
    const start = series === "scalars" ? "metrics." : `metrics.${series}.`;
    const isKnown = (name) => {
      const values = this.byPath.get(start + name)?.values;
      return Boolean(values) && rows.some((row) => (values[row] ?? null) !== null);
    };
    const known = new Set(columns.filter(isKnown));
    return [[...known], columns.filter((name) => !known.has(name))];
  }

  // Return the names of series that some of these runs have, with their columns.
  seriesOf(rows) {
    const wanted = new Set(rows);
    return Object.entries(this.json.series ?? {}).filter(([, series]) => series.runs.some((row) => wanted.has(row)));
  }
}

function rundataShortNames(runIds, ids) {
  const names = new Set(runIds).size === ids.length ? runIds : ids;
  if (names.length < 2) return names;
  let same = names[0].length;
  for (const name of names) {
    while (!name.startsWith(names[0].slice(0, same))) same -= 1;
  }
  const words = names[0].slice(0, same).match(/^(?:.*?[_\-/](?=[A-Za-z]))*/)?.[0].length ?? 0;
  return names.map((name) => name.slice(words));
}

// Check whether a column has the same value in all of these rows, or in all that have one.
export function isConstant(column, rows, { ignoresMissing = false } = {}) {
  let first;
  for (const row of rows) {
    const value = column.values[row] ?? null;
    if (value === null && ignoresMissing) continue;
    const text = keyOf(value);
    if (first === undefined) first = text;
    else if (text !== first) return false;
  }
  return true;
}

const RUNDATA_FIRST = [/^loss$/i, /loss|error|residual|objective/i, /acc|score|reward|auc|f1/i];

// Return names of metrics with those first that people look at first: the one by which the table is sorted, then losses.
export function byImportance(names, sort = "") {
  const sorted = sort.replace(/^-/, "").replace(/\.(min|max)$/, "");
  const rank = (name) => {
    const at = RUNDATA_FIRST.findIndex((pattern) => pattern.test(name));
    return name === sorted ? -1 : at < 0 ? RUNDATA_FIRST.length : at;
  };
  return [...names].sort((one, other) => rank(one) - rank(other));
}

// Return a text that is the same for equal values only.
export function keyOf(value) {
  return typeof value === "number" ? String(value) : JSON.stringify(value ?? null);
}

// Return the order of rows by a column: numbers, texts, other values; those without a value last in both directions.
export function orderedBy(rows, column, isReverse) {
  if (!column) return rows;
  const [valued, missing] = [[], []];
  for (const row of rows) (rundataRank(column.values[row]) < 3 ? valued : missing).push(row);
  const sign = isReverse ? -1 : 1;
  valued.sort((one, other) => sign * compareValues(column.values[one], column.values[other]) || one - other);
  return [...valued, ...missing];
}

function rundataRank(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return 3;
  return typeof value === "number" || typeof value === "boolean" ? 0 : typeof value === "string" ? 1 : 2;
}

export function compareValues(one, other) {
  const ranks = [rundataRank(one), rundataRank(other)];
  if (ranks[0] !== ranks[1]) return ranks[0] - ranks[1];
  if (ranks[0] === 0) return one - other;
  const texts = ranks[0] === 1 ? [one, other] : [keyOf(one), keyOf(other)];
  return texts[0] < texts[1] ? -1 : texts[0] > texts[1] ? 1 : 0;
}

// Return the labels of rows for legends: the parameters that differ, else the names.
export function labelsOf(data, rows, without = []) {
  const differing = data.differing(rows, without).slice(0, 4);
  const labels = rows.map((row) => differing
    .filter((column) => column.values[row] !== null && column.values[row] !== undefined)
    .map((column) => [column.name, column.values[row]]));
  return rows.map((row, place) => ({ row, name: data.shortName(row), parts: labels[place] }));
}
