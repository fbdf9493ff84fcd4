// Which runs are on the page, in which order, and the table that shows them. The table holds only the rows on screen.

import { atNextFrame, h, replace } from "./dom.js";
import { columnForm, columnTitle, statusCell } from "./cells.js";
import { isConstant, orderedBy } from "./rundata.js";
import { currentState, linkTo, listOf, listText, setOptions } from "./state.js";
import { shortened } from "./format.js";
import { curveEntries, curveOptions, entryIndexes } from "./curvedata.js";
import { swatch } from "./swatch.js";
import { whereRows } from "./where.js";

const TABLE_SELECTED = 10; // runs, or groups of runs, whose curves are drawn without a choice
const TABLE_GROUPED = 300; // and runs of such groups
const TABLE_END = 11; // characters of the end of a long name, which tells runs apart, and so is always shown
const TABLE_EXTRA = 8; // rows above and below the screen

// -- which runs --------------------------------------------------------------------------------------------

const tableChoices = new WeakMap();

// Return {rows, error, notes}: the rows that the filter and the status of the address choose, in its order.
export function chosenRows(page) {
  const { where = "", status = "", sort = "" } = currentState().options;
  const key = JSON.stringify([where, status, sort]);
  const known = tableChoices.get(page.data);
  if (known?.key === key) return known;
  const choice = { key, ...tableChoice(page.data, where.trim(), listOf(status), sort) };
  if (choice.error) choice.rows = known?.rows ?? [...page.data.ids.keys()]; // until the filter is valid again
  tableChoices.set(page.data, choice);
  return choice;
}

function tableChoice(data, where, statuses, sort) {
  let found = { rows: [...data.ids.keys()], error: "", notes: [] };
  if (where) found = isPlainWord(data, where) ? tableNamed(data, where) : whereRows(where, data.json, data.now);
  let { rows } = found;
  if (statuses.length > 0) rows = rows.filter((row) => statuses.includes(data.fact(row, "status")));
  const column = data.byName.get(sort.replace(/^-/, ""));
  return { ...found, rows: orderedBy(rows, column, sort.startsWith("-")) };
}

// A single word that is no name of a column finds runs by their names.
function isPlainWord(data, where) {
  return /^[\w./:+\-\u0080-\u{10ffff}]+$/u.test(where) && !data.byName.has(where) && !data.byPath.has(where);
}

function tableNamed(data, word) {
  const lower = word.toLowerCase();
  const rows = [...data.ids.keys()].filter((row) => data.ids[row].toLowerCase().includes(lower));
  return { rows, error: "", notes: [`Runs with ${word} in their name.`] };
}

export function visibleRows(page) {
  return chosenRows(page).rows;
}

// Return the rows whose curves are drawn: those of the option `sel`, else the first ones on the page with a series.
export function selectedRows(page) {
  const { data } = page;
  const { sel } = currentState().options;
  const visible = visibleRows(page);
  if (sel === "*") return visible;
  if (sel !== undefined) return listOf(sel).map((id) => data.rowOf.get(id)).filter((row) => row !== undefined);
  const having = new Set(Object.values(data.json.series ?? {}).flatMap((series) => series.runs));
  const rows = visible.filter((row) => having.has(row));
  const options = curveOptions(page, rows);
  if (options.group.length === 0) return rows.slice(0, TABLE_SELECTED);
  const groups = curveEntries(page, rows, options).slice(0, TABLE_SELECTED); // whole ones: a mean is of all repetitions
  return groups.flatMap((group) => group.rows).slice(0, TABLE_GROUPED);
}

function selectRows(page, rows) {
  const visible = visibleRows(page);
  const isAll = rows.length === visible.length && rows.length > TABLE_SELECTED && rows.every((row, place) => row === visible[place]);
  setOptions({ sel: isAll ? "*" : listText(rows.map((row) => page.data.ids[row])) });
}

// -- which columns -----------------------------------------------------------------------------------------

const TABLE_FACTS = ["id", "status"];
const TABLE_LAST = ["started", "seconds"];

// Return the columns that the table can show, in order, each with whether it does.
export function tableColumns(page) {
  const { data } = page;
  const { hide, show } = currentState().options;
  const [hidden, shown] = [new Set(listOf(hide)), new Set(listOf(show))];
  const facts = (paths) => paths.map((path) => data.byPath.get(path)).filter(Boolean);
  const values = data.columns.filter((column) => column.kind !== "fact");
  const others = data.columns.filter(
    (column) => column.kind === "fact" && ![...TABLE_FACTS, ...TABLE_LAST, "certain", "name"].includes(column.path),
  );
  const usual = new Set([...facts(TABLE_FACTS), ...facts(TABLE_LAST), ...values.filter((column) => !column.hidden)]);
  const same = new Set(constantColumns(page));
  return [...facts(TABLE_FACTS), ...values, ...facts(TABLE_LAST), ...others].map((column) => ({
    column,
    isShown: !hidden.has(column.name) && (shown.has(column.name) || (usual.has(column) && !same.has(column))),
  }));
}

// Return the parameters and metrics that are the same in all runs; with one run there are none.
export function constantColumns(page) {
  const { data } = page;
  if (data.count < 2) return [];
  return data.columns.filter(
    (column) => column.kind !== "fact" && !column.hidden && isConstant(column, data.ids.keys()),
  );
}

// -- the table ---------------------------------------------------------------------------------------------

export class RunTable {
  constructor(page) {
    this.page = page;
    this.head = h("thead");
    this.body = h("tbody", { onclick: (event) => this.clicked(event), onkeydown: (event) => this.pressed(event) });
    this.columnGroup = h("colgroup");
    this.table = h("table", { class: "runs" }, h("caption", { class: "hidden-text" }, "Runs"), this.columnGroup, this.head, this.body);
    this.element = h("div", { class: "runs-scroll", tabindex: "0", role: "region", "aria-label": "Table of runs" }, this.table);
    this.draw = atNextFrame(() => this.drawRows());
    this.element.addEventListener("scroll", this.draw, { passive: true });
    this.sizes = new ResizeObserver(this.draw);
    this.sizes.observe(this.element);
    this.anchor = 0;
  }

  close() {
    this.sizes.disconnect();
  }

  update() {
    const { page } = this;
    this.rows = visibleRows(page);
    const selected = selectedRows(page);
    this.selected = new Set(selected);
    this.swatches = entryIndexes(curveEntries(page, selected, curveOptions(page, selected)));
    this.columns = tableColumns(page).filter(({ isShown }) => isShown).map(({ column }) => ({ column, form: columnForm(column) }));
    this.drawHead();
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    this.drawn = null;
    this.drawRows();
  }

  drawHead() {
    const { sort = "" } = currentState().options;
    const widths = this.columns.map(({ column, form }) => form.width);
    replace(this.columnGroup, h("col"), this.columns.map(() => h("col")));
    [...this.columnGroup.children].forEach((col, place) => {
      col.style.width = place ? `calc(${widths[place - 1]}ch + 1.2rem)` : "var(--choose)";
    });
    this.table.style.width = `calc(${widths.reduce((sum, width) => sum + width, 0)}ch + ${1.2 * widths.length}rem + var(--choose))`;
    const all = h("input", {
      type: "checkbox", "aria-label": "Select all runs", onchange: (event) => this.selectAll(event.target.checked),
    });
    const count = this.rows.filter((row) => this.selected.has(row)).length;
    all.checked = count > 0 && count === this.rows.length;
    all.indeterminate = count > 0 && count < this.rows.length;
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.sort : undefined;
    replace(this.head, h("tr", {}, h("th", { class: "choose", scope: "col" }, all),
      this.columns.map(({ column, form }) => tableHeading(column, form, sort))));
    if (focused !== undefined) [...this.head.querySelectorAll("button")].find((button) => button.dataset.sort === focused)?.focus();
  }

  selectAll(isChosen) {
    selectRows(this.page, isChosen ? this.rows : []);
  }

  // Draw the rows on screen, between two rows as high as all others together.
  drawRows() {
    const height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 30;
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - TABLE_EXTRA);
    const last = Math.min(this.rows.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + TABLE_EXTRA);
    const key = `${first}-${last}`;
    if (this.drawn === key) return;
    this.drawn = key;
    const focused = this.focusedCell();
    const shown = this.rows.slice(first, last).map((row, place) => this.rowElement(row, first + place));
    replace(this.body, tableSpace(first * height), shown, tableSpace((this.rows.length - last) * height));
    if (focused) this.focusCell(focused.row, focused.part);
  }

  rowElement(row, place) {
    const { data } = this.page;
    const id = data.ids[row];
    const isSelected = this.selected.has(row);
    const box = h("input", { type: "checkbox", checked: isSelected, "data-part": "box", "aria-label": `Select ${id}` });
    const name = data.shortName(row);
    const link = h("a", { href: linkTo("run", [id]), title: id, "aria-label": name, "data-part": "link" }, tableName(name));
    const cells = this.columns.map(({ column, form }) => {
      if (column.path === "id") return h("th", { scope: "row", class: "name" }, link);
      if (column.path === "status" && column.kind === "fact") return h("td", {}, statusCell(data, row));
      const text = form.text(column.values[row]);
      const title = column.kind === "fact" && column.type === "number" ? null : tableTitle(column.values[row], text);
      return h("td", { class: form.isRight ? "number" : null, title }, text);
    });
    return h("tr", { "data-row": row, "aria-rowindex": place + 2, class: isSelected ? "is-chosen" : null },
      h("td", { class: "choose" }, box, isSelected && swatch(this.swatches.get(row))), cells);
  }

  focusedCell() {
    const element = document.activeElement;
    const line = element?.closest?.("tr[data-row]");
    return line && this.body.contains(line) ? { row: Number(line.dataset.row), part: element.dataset.part } : null;
  }

  focusCell(row, part) {
    const cell = this.body.querySelector(`tr[data-row="${row}"] [data-part="${part}"]`);
    if (cell) cell.focus({ preventScroll: true });
    else this.element.focus({ preventScroll: true });
  }

  clicked(event) {
    const line = event.target.closest("tr[data-row]");
    if (!line || event.target.dataset.part !== "box") return;
    this.toggle(Number(line.dataset.row), event.shiftKey);
  }

  // Select or unselect a row; with Shift all between it and the last one.
  toggle(row, isRange) {
    const place = this.rows.indexOf(row);
    const isChosen = !this.selected.has(row);
    const [from, to] = isRange ? [Math.min(this.anchor, place), Math.max(this.anchor, place)] : [place, place];
    const range = this.rows.slice(from, to + 1);
    this.anchor = place;
    const selected = new Set(this.selected);
    for (const one of range) selected[isChosen ? "add" : "delete"](one);
    selectRows(this.page, [...selected]);
  }

  // The arrow keys go from row to row.
  pressed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const focused = this.focusedCell();
    if (!step || !focused) return;
    event.preventDefault();
    const place = this.rows.indexOf(focused.row) + step;
    if (place < 0 || place >= this.rows.length) return;
    this.reveal(place);
    this.focusCell(this.rows[place], focused.part);
  }

  reveal(place) {
    const height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 30;
    const room = this.element.clientHeight - this.head.offsetHeight - height;
    const top = place * height;
    this.element.scrollTop = Math.min(top, Math.max(this.element.scrollTop, top - room));
    this.drawRows();
  }
}

function tableHeading(column, form, sort) {
  const order = tableOrder(column, sort);
  const click = () => {  // the order may have changed since this was drawn
    const next = { ascending: `-${column.name}`, descending: null }[tableOrder(column, currentState().options.sort ?? "")];
    setOptions({ sort: next === undefined ? column.name : next });
  };
  const title = columnTitle(column);
  const name = [form.isRight && "number", column.path === "id" && "name"].filter(Boolean).join(" ") || null;
  return h("th", { scope: "col", "aria-sort": order, class: name },
    h("button", { class: "sort", "data-sort": column.name, title: column.kind === "fact" ? null : column.path, onclick: click },
      shortened(title, 26), order && h("span", { "aria-hidden": "true" }, order === "ascending" ? " ▲" : " ▼")));
}

function tableOrder(column, sort) {
  return sort === column.name ? "ascending" : sort === `-${column.name}` ? "descending" : null;
}

// Return a name whose beginning is cut if the column is too narrow, in whatever font.
function tableName(name) {
  const letters = [...name];
  if (letters.length <= 2 * TABLE_END) return name;
  return [h("span", { class: "name-start" }, letters.slice(0, -TABLE_END).join("")), h("span", {}, letters.slice(-TABLE_END).join(""))];
}

function tableTitle(value, text) {
  if (value === null || value === undefined) return null;
  const full = typeof value === "string" ? value : JSON.stringify(value);
  return full === text.trim() ? null : full.slice(0, 1000);
}

function tableSpace(height) {
  const space = h("tr", { class: "space", "aria-hidden": "true" });
  space.style.height = `${height}px`;
  return space;
}
