// The `--where` language in the browser: which rows of `runs` match a filter, by the same rules as `notata.search.where`.
//
// The page differs from the command in these points, because it has the columns of a table instead of runs, and numbers
// of JavaScript:
// - the page has the null of a parameter only where a column says so (`nulls`);
// - a dictionary is rebuilt from the columns of its parts, so `solver.order` finds a parameter of that name and a part;
// - there is no `metadata`, and no fact that has no column;
// - whole numbers beyond 2**53 are rounded, and a result beyond 1.8e308 is not computed;
// - a number without a fraction is an integer;
// - `matches` takes a bounded number of steps for all runs together, so that the page stays responsive;
// - `\N{…}` is refused, and the position and words of a syntax error are our own;
// - similar names are compared with all names, also with those of parts.

import { Filter, quotedText } from "./filter.js";
import { beginPatterns } from "./operators.js";
import { FilterError } from "./syntax.js";

const WHERE_FACTS = new Set(["name", "run_id", "url", "status", "certain", "started", "ended", "age", "seconds", "size",
  "files", "failure_reason", "metrics_error", "host", "pinned"]);
const WHERE_PARTS = ["params", "metrics"];
const WHERE_TEXTS = new Set(
  ["name", "run_id", "url", "status", "started", "ended", "failure_reason", "metrics_error", "host"]);

function whereFilter(text) {
  try {
    return { filter: new Filter(text), error: "" };
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    return { filter: null, error: error.message };
  }
}

// Return {rows, error, notes}: the indexes of the matching runs; why the text is no filter; notes, such as names that no
// run has. `runsData` has `count` and `columns`, whose numbers are complete; `now` is the time for ages, in milliseconds.
export function whereRows(text, runsData, now) {
  const all = [...Array(runsData.count).keys()];
  if (!text.trim()) return { rows: all, error: "", notes: [] };
  beginPatterns();
  const { filter, error } = whereFilter(text);
  if (error) return { rows: [], error, notes: [] };
  const columns = new Map(runsData.columns.map((column) => [column.path, column]));
  const getters = new Map(filter.paths.map((path) => [path, whereGetter(path, columns, now)]));
  const rows = all.filter((row) => filter.holds((path) => getters.get(path)(row)));
  return { rows, error: "", notes: whereNotes(filter, columns, getters, all) };
}

// -- values -----------------------------------------------------------------------------------------------

// Return a function that finds the value of a name in a row.
function whereGetter(path, columns, now) {
  const places = [...wherePlaces(path, columns, now)];
  return (row) => {
    for (const { find, rest } of places) {
      const value = find(row);
      if (value !== undefined) return rest.reduce(whereStep, value);
    }
    return undefined;
  };
}

// Yield the columns that may have the value, and the parts of the name that remain: the longest name with dots first.
function* wherePlaces(path, columns, now) {
  const isPart = WHERE_PARTS.includes(path[0]);
  const names = isPart ? path.slice(1) : path;
  const parts = isPart ? [path[0]] : WHERE_PARTS;
  const isIndex = (step) => typeof step === "number";
  const texts = names.some(isIndex) ? names.findIndex(isIndex) : names.length;
  for (let length = texts; length >= 0; length--) {
    const [name, rest] = [names.slice(0, length).join("."), names.slice(length)];
    if (!isPart && length === 1 && WHERE_FACTS.has(name)) {
      yield { find: whereFact(name, columns, now), rest };
      return;
    }
    for (const part of parts) {
      const column = length > 0 && columns.get(`${part}.${name}`);
      if (column) yield { find: whereCells(column), rest };
      const isWhole = length === 0 ? isPart : rest.length === 0;
      if (isWhole) yield { find: whereDictionary([part, ...names.slice(0, length)].join("."), columns), rest };
    }
  }
}

// Return a function that finds the value of a column in a row: null only if the run has this value, undefined if it has
// none.
function whereCells({ values, nulls = [] }) {
  const known = new Set(nulls);
  return (row) => values[row] ?? (known.has(row) ? null : undefined);
}

function whereFact(name, columns, now) {
  if (name === "pinned" && !columns.has(name)) return () => false; // there is a column only if a run is pinned
  const values = columns.get(name === "age" ? "started" : name)?.values ?? [];
  if (name !== "age") return (row) => (values[row] === "" ? undefined : (values[row] ?? undefined));
  return (row) => (values[row] ? (now - Date.parse(values[row])) / 1000 : undefined);
}

// Return a function that rebuilds a dictionary from the columns of its parts; of a run without such parts there is none,
// except for `params` and `metrics` themselves.
function whereDictionary(name, columns) {
  const inside = [...columns.values()].filter(({ path }) => path.startsWith(`${name}.`));
  const parts = inside.map((column) => [column.path.slice(name.length + 1).split("."), whereCells(column)]);
  const isPart = WHERE_PARTS.includes(name);
  return (row) => {
    const given = parts.map(([names, find]) => [names, find(row)]).filter(([, value]) => value !== undefined);
    if (given.length === 0 && !isPart) return undefined;
    const whole = Object.create(null);
    for (const [names, value] of given) wherePut(whole, names, value);
    return whole;
  };
}

function wherePut(whole, names, value) {
  let inner = whole;
  for (const name of names.slice(0, -1)) {
    inner[name] ??= Object.create(null);
    if (typeof inner[name] !== "object" || Array.isArray(inner[name])) {
      whole[names.join(".")] = value; // a value has the name of this dictionary
      return;
    }
    inner = inner[name];
  }
  inner[names.at(-1)] = value;
}

// Return an element of a list, a character of a text, or a part of a dictionary.
function whereStep(value, step) {
  if (value === undefined || value === null) return undefined;
  if (typeof step === "string") {
    return typeof value === "object" && !Array.isArray(value) && Object.hasOwn(value, step) ? value[step] : undefined;
  }
  return Array.isArray(value) ? value.at(step) : typeof value === "string" ? [...value].at(step) : undefined;
}

// -- notes ------------------------------------------------------------------------------------------------

function whereNotes(filter, columns, getters, rows) {
  const isFact = (path) => WHERE_FACTS.has(path[0]) || (path.length === 1 && WHERE_PARTS.includes(path[0]));
  const isUnseen = (path) => !isFact(path) && !rows.some((row) => getters.get(path)(row) !== undefined);
  const unseen = new Set(filter.paths.filter(isUnseen));
  const quoted = filter.quoted((path) => unseen.has(path), (path) => WHERE_TEXTS.has(path[0]));
  const bare = new Set(quoted?.names);
  const notes = [...unseen].filter((path) => !bare.has(path)).map((path) => whereUnseen(path, columns)).sort();
  if (quoted) {
    const names = [...bare].filter((path) => unseen.has(path)).map(whereShown);
    const none = names.length > 0 ? `no run has ${names.join(", ")}; ` : "";
    notes.push(`${none}put text in quotes: ${quoted.text}`);
  }
  for (const name of new Set(filter.paths.map(([first]) => first).filter((first) => WHERE_FACTS.has(first)))) {
    const other = WHERE_PARTS.find((part) => columns.has(`${part}.${name}`));
    if (other) notes.push(`${name} is the value of the run; there is also ${other}.${name}`);
  }
  if (filter.tooLarge) notes.push(`not computed for some runs: ${filter.tooLarge}`);
  return notes;
}

function whereUnseen(path, columns) {
  const known = new Set(WHERE_FACTS);
  for (const { path: other } of columns.values()) {
    const [part, ...names] = other.split(".");
    if (!WHERE_PARTS.includes(part)) continue;
    known.add(names[0]);
    known.add(names.join("."));
  }
  const texts = path.filter((step) => typeof step === "string");
  const wanted = (WHERE_PARTS.includes(path[0]) ? texts.slice(1) : texts).join(".");
  const close = closeNames(wanted, [...known]);
  return `no run has ${whereShown(path)}${close.length > 0 ? `; similar names: ${close.join(", ")}` : ""}`;
}

// Return a name as it is written in a filter.
function whereShown([first, ...steps]) {
  return first + steps.map((step) => {
    if (typeof step === "number") return `[${step}]`;
    return /^[\p{XID_Start}_]\p{XID_Continue}*$/u.test(step) ? `.${step}` : `[${quotedText(step)}]`;
  }).join("");
}

// Return up to three names that resemble another, the most similar first (the measure of Python's difflib).
function closeNames(wanted, names) {
  const scored = names.map((name) => ({ name, score: 2 * whereCommon(name, wanted) / (name.length + wanted.length) }));
  const close = scored.filter(({ score }) => score >= 0.6);
  return close.sort((one, other) => other.score - one.score || (one.name < other.name ? 1 : -1)).slice(0, 3)
    .map(({ name }) => name);
}

// Return the number of characters in the longest common part, and in those before and after it.
function whereCommon(one, other) {
  let [from, at, length] = [0, 0, 0];
  let ends = []; // the length of the common part that ends at each place of `other`
  for (let place = 0; place < one.length; place++) {
    const now = [];
    for (let there = 0; there < other.length; there++) {
      if (one[place] !== other[there]) continue;
      now[there] = (ends[there - 1] ?? 0) + 1;
      if (now[there] > length) [length, from, at] = [now[there], place - now[there] + 1, there - now[there] + 1];
    }
    ends = now;
  }
  if (length === 0) return 0;
  return length + whereCommon(one.slice(0, from), other.slice(0, at)) +
    whereCommon(one.slice(from + length), other.slice(at + length));
}
