// Two runs side by side: what differs first, what is equal on request.

import { append, h, replace } from "./dom.js";
import { counted, numberText, sizeText, spanText, timeText } from "./format.js";
import { currentState, goTo, linkTo, listOf } from "./state.js";
import { keyOf } from "./rundata.js";
import { statusCell } from "./cells.js";
import { curvesPanel } from "./curves.js";
import { menuBox } from "./menu.js";
import { copyFullValues, flatValues, longList, scrolledTable, valueCell, withoutExtremes } from "./values.js";
import { failureParts } from "./failure.js";
import { galleryOf } from "./gallery.js";
import { recordOf, runSelect } from "./record.js";
import { SOURCE_SILENT } from "./source.js";

const COMPARE_ALIKE = new Map([["Equal content", "equal content"], ["Same size", "the same size"]]); // of files
const COMPARE_IGNORED = new Set(["pid"]); // of the environment: differs between any two runs

export function compareView(page, args) {
  const known = args.filter((id) => page.data.rowOf.has(id));
  if (args.length === 2 && known.length === 2) return new CompareView(page, known);
  return compareChoice(page, known, args.filter((id) => !page.data.rowOf.has(id)));
}

// The choice of two runs; at first, the first two selected ones.
function compareChoice(page, known, missing) {
  const { ids, count } = page.data;
  if (count < 2) {
    const element = h("div", { class: "empty" }, h("h2", {}, "Compare two runs"), h("p", {}, "There are no two runs to compare."));
    return { element, title: "Compare", update() {}, close() {} };
  }
  const selected = listOf(currentState().options.sel).filter((id) => page.data.rowOf.has(id));
  const preset = [...new Set([...known, ...selected, ...ids.slice(0, 2)])].slice(0, 2);
  const element = h("div", { class: "compare-choice" }, h("h2", {}, "Compare two runs"),
    missing.length > 0 && h("p", { class: "is-error" }, compareMissing(missing)),
    compareForm(page, preset));
  return { element, title: "Compare", update() {}, close() {} };
}

function compareMissing(ids, more = "") {
  return `There is no run ${ids.join(" and no run ")}${more && ` ${more}`}.`;
}

function compareForm(page, [a, b]) {
  const check = () => { button.disabled = !one.value() || !other.value() || one.value() === other.value(); };
  const one = runSelect(page, { label: "First run", id: a, chosen: () => check() });
  const other = runSelect(page, { label: "Second run", id: b, chosen: () => check() });
  const open = () => goTo(linkTo("compare", [one.value(), other.value()]));
  const button = h("button", { type: "button", class: "primary", onclick: open }, "Compare");
  check();
  return h("div", { class: "compare-form" }, one.element, other.element, button);
}

class CompareView {
  constructor(page, ids) {
    this.page = page;
    this.ids = ids;
    this.title = `${ids[0]} and ${ids[1]}`;
    this.body = h("div", {}, h("p", { class: "faint" }, "Reading…"));
    this.head = h("div", { class: "compare-head" });
    this.element = h("article", { class: "compare-page", "aria-busy": "true" }, h("div", { class: "run-title" }, h("h2", {}, "Compare"),
      h("div", { class: "toolbar run-moves" },
        h("a", { class: "step", href: linkTo("compare", [ids[1], ids[0]]) }, "Swap"),
        append(menuBox(), h("summary", {}, "Other runs…"), h("div", { class: "menu-body is-wide" }, compareForm(page, ids))))),
    this.head, this.body);
    this.showHead();
    this.load();
    this.stopWatching = page.source.watch({}, ({ kind }) => kind === "recovered" && this.isPartial && this.load());
  }

  get rows() {
    return this.ids.map((id) => this.page.data.rowOf.get(id));
  }

  // Options of the address or the table of runs have changed. A run may be gone, and come back.
  update() {
    const gone = this.ids.filter((id) => !this.page.data.rowOf.has(id));
    if (gone.length > 0) {
      this.showGone(gone);
      return;
    }
    this.showHead();
    if (this.isGone) {
      this.isGone = false;
      this.load();
    }
    this.curves?.update(this.rows);
  }

  // The panel of curves knows its runs by their rows in the table, which are others now.
  showGone(gone) {
    this.isGone = true;
    this.closeCurves();
    replace(this.head);
    replace(this.body, h("p", { class: "is-error", role: "status" }, compareMissing(gone, "any more")));
  }

  closeCurves() {
    this.curves?.close();
    this.curves = null;
  }

  close() {
    this.stopWatching();
    this.isClosed = true;
    this.closeCurves();
  }

  showHead() {
    const { data } = this.page;
    replace(this.head, this.rows.map((row, place) => h("div", { class: "panel compare-run" },
      h("h3", {}, h("span", { class: "compare-sign", "aria-hidden": "true" }, "AB"[place]), " ",
        h("a", { href: linkTo("run", [this.ids[place]]) }, this.ids[place])),
      h("p", {}, statusCell(data, row), h("span", { class: "faint" }, compareFacts(data, row))))));
  }

  async load() {
    const silent = () => this.isPartial === undefined && !this.isGone && replace(this.body, h("p", { class: "is-error" }, SOURCE_SILENT));
    const records = await Promise.all(this.ids.map((id) => recordOf(this.page, id, silent)));
    if (this.isClosed || this.isGone) return;
    this.isPartial = records.some(({ partial }) => partial);
    this.closeCurves();
    const [a, b] = records;
    const metrics = comparedValues(withoutExtremes(a.metrics), withoutExtremes(b.metrics));
    const sections = [
      compareSection("What went wrong", compareFailures(this.page, records)),
      compareSection("Metrics", compareTable("Metrics", this.ids, metrics, { changes: true })),
      compareSection("Parameters", compareTable("Parameters", this.ids, comparedValues(a.params, b.params))),
      compareSection("Curves", this.curvesOfBoth()),
      compareSection("Own fields", compareTable("Own fields", this.ids, comparedValues(a.fields, b.fields))),
      compareSection("Environment", compareTable("Environment", this.ids, comparedValues(compareAround(a), compareAround(b)))),
      compareSection("Pictures", comparePictures(this.page, records)),
      compareSection("Files", compareTable("Files", this.ids, comparedFiles(a.files, b.files), { isFiles: true })),
    ];
    const partial = records.filter((record) => record.partial).map((record) => h("li", {}, `${record.id}: ${record.partial}`));
    replace(this.body, partial.length > 0 && h("ul", { class: "problems" }, partial), sections);
    this.element.removeAttribute("aria-busy");
  }

  curvesOfBoth() {
    if (!this.page.data.seriesOf(this.rows).length) return null;
    this.curves = curvesPanel(this.page, { rows: this.rows });
    return this.curves.element;
  }
}

function compareSection(title, content) {
  return content ? h("section", { class: "run-section" }, h("h3", {}, title), h("div", { class: "run-body" }, content)) : null;
}

function compareFacts(data, row) {
  const started = data.fact(row, "started");
  const seconds = data.fact(row, "seconds");
  const facts = [started && timeText(started), typeof seconds === "number" && spanText(seconds), data.fact(row, "host")];
  return facts.filter(Boolean).map((fact) => ` · ${fact}`).join("");
}

function compareAround({ environment }) {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !COMPARE_IGNORED.has(name)));
}

// Return the names of both, each with both values and whether they are equal; undefined where one has none.
function comparedValues(one, other) {
  const [a, b] = [new Map(flatValues(one)), new Map(flatValues(other))];
  return [...new Set([...a.keys(), ...b.keys()])].map((name) => {
    const values = [a.get(name), b.get(name)];
    const isEqual = a.has(name) && b.has(name) && keyOf(values[0]) === keyOf(values[1]);
    return { name, values, isEqual };
  });
}

// Return the files of both, with the evidence for whether they are equal.
function comparedFiles(one, other) {
  const [a, b] = [one, other].map((files) => new Map(files.map((file) => [file.key, file])));
  return [...new Set([...a.keys(), ...b.keys()])].sort().map((key) => {
    const files = [a.get(key), b.get(key)];
    const why = compareEvidence(...files);
    return { name: key, values: files.map((file) => file?.size), isEqual: COMPARE_ALIKE.has(why), why };
  });
}

function compareEvidence(a, b) {
  if (!a) return "Only in B";
  if (!b) return "Only in A";
  if (a.digest && b.digest) return a.digest === b.digest ? "Equal content" : "Content differs";
  return a.size === b.size ? "Same size" : "Size differs";
}

// Return the table of differences, and the equal ones, closed.
function compareTable(label, ids, items, { changes = false, isFiles = false } = {}) {
  if (!items.length) return null;
  const different = items.filter((item) => !item.isEqual);
  const equal = items.filter((item) => item.isEqual);
  const last = changes ? "Change" : isFiles ? "Difference" : "";
  const titles = [
    h("th", { scope: "col" }, isFiles ? "File" : "Name"),
    ids.map((id, place) => h("th", { scope: "col", title: id }, "AB"[place], h("span", { class: "hidden-text" }, ` ${id}`))),
    last && h("th", { scope: "col" }, last),
  ];
  const row = (item) => h("tr", {}, h("th", { scope: "row" }, item.name), compareCells(item, isFiles),
    last && h("td", {}, isFiles ? item.why : compareChange(item)));
  const table = (rows, name) => {
    const { body, filter } = longList(rows, row, { tag: "tbody", textOf: (item) => item.name, label: name, span: 4 });
    const heads = titles.flat().map((title) => title && title.cloneNode(true));
    return [filter, scrolledTable(name, heads, body, { class: "is-compared", oncopy: copyFullValues })];
  };
  const parts = isFiles
    ? [...COMPARE_ALIKE].map(([why, text]) => [equal.filter((item) => item.why === why), `with ${text}`, `${label} with ${text}`])
    : [[equal, "equal", `${label} that are equal`]];
  return [
    different.length ? table(different, `${label} that differ`) : h("p", { class: "faint" }, "No difference."),
    parts.map(([rows, text, name]) => rows.length > 0 && h("details", {},
      h("summary", {}, `${isFiles ? counted(rows.length, "file") : numberText(rows.length)} ${text}`), table(rows, name))),
  ];
}

function compareCells({ values }, isFiles) {
  const digits = compareDigits(values);
  const isRounded = isFiles && values[0] !== values[1] && sizeText(values[0] ?? 0) === sizeText(values[1] ?? 0);
  return values.map((value) => {
    if (value === undefined) {
      return h("td", { class: "faint" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "hidden-text" }, "None"));
    }
    if (!isFiles) return valueCell(value, { digits });
    return h("td", { class: "number", title: `${value} B` }, isRounded ? counted(value, "byte") : sizeText(value));
  });
}

// Return the digits that two numbers need to look different.
function compareDigits([a, b]) {
  let digits = 4;
  if (typeof a !== "number" || typeof b !== "number" || a === b) return digits;
  while (digits < 17 && numberText(a, digits) === numberText(b, digits)) digits += 1;
  return digits;
}

function compareChange({ values: [a, b] }) {
  if (typeof a !== "number" || typeof b !== "number") return "";
  const sign = b > a ? "+" : "";
  if (a === 0) return `${sign}${numberText(b - a, 3)}`;
  return `${sign}${numberText(100 * (b - a) / Math.abs(a), 3)} %`;
}

function compareFailures(page, records) {
  const parts = records.map((record) => failureParts(record, page.data.now));
  if (!parts.some((part) => part.length)) return null;
  return h("div", { class: "compare-sides" }, parts.map((part, place) => h("div", {},
    h("h4", {}, `${"AB"[place]} ${records[place].id}`), part.length ? part : h("p", { class: "faint" }, "Nothing."))));
}

// Return the pictures that both runs have, in pairs: the arrow keys change between the two.
function comparePictures(page, records) {
  const keys = records.map((record) => new Set(record.files.filter((file) => file.kind === "image").map((file) => file.key)));
  const both = [...keys[0]].filter((key) => keys[1].has(key));
  if (!both.length) return null;
  const pictures = both.flatMap((key) => records.map(({ id }, place) => ({ id, key, label: `${"AB"[place]} ${key}` })));
  const note = `${counted(both.length, "picture")} with the same name in both`;
  return [h("p", { class: "faint" }, note), h("div", { class: "is-pairs" }, galleryOf(page, pictures))];
}
