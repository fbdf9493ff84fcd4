// The first view: the table of runs, with filter, statuses and columns above it, and the curves of chosen runs beside it.

import { afterPause, append, h, replace } from "./dom.js";
import { columnTitle } from "./cells.js";
import { counted, numberText, shortened, valueText } from "./format.js";
import { currentState, linkTo, listOf, listText, setOptions } from "./state.js";
import { curvesPanel } from "./curves.js";
import { menuBox } from "./menu.js";
import { chosenRows, constantColumns, RunTable, selectedRows, tableColumns } from "./table.js";

const RUNS_EXAMPLE = "loss < 0.1 and status == 'complete'";

export function runsView(page) {
  return new RunsView(page);
}

class RunsView {
  title = "";

  constructor(page) {
    this.page = page;
    this.table = new RunTable(page);
    this.filter = new FilterBox(page);
    this.statuses = h("div", { class: "statuses", role: "group", "aria-label": "Status" });
    this.columns = new ColumnMenu(page);
    this.curvesButton = h("button", { onclick: () => this.toggleCurves() }, "Curves");
    this.summary = h("p", { class: "runs-summary" });
    this.same = h("details", { class: "same" });
    this.none = h("p", { class: "empty" });
    this.side = h("section", { class: "runs-side", "aria-label": "Curves of the selected runs" });
    this.split = h("div", { class: "runs-split" },
      h("section", { class: "runs-main", "aria-label": "Runs" }, this.table.element, this.none), this.side);
    this.element = h("div", { class: "runs-view" },
      h("div", { class: "toolbar" }, this.filter.element, this.statuses, this.columns.element, this.curvesButton),
      this.filter.message, h("div", { class: "runs-line" }, this.summary, this.same), this.split);
    this.update();
  }

  close() {
    this.table.close();
    this.curves?.close();
  }

  update() {
    const { page } = this;
    const choice = chosenRows(page);
    this.filter.update(choice);
    this.showStatuses();
    this.columns.update();
    this.showSame();
    this.table.update();
    this.table.element.hidden = choice.rows.length === 0;
    this.none.hidden = choice.rows.length > 0;
    replace(this.none, runsNone(page));
    this.showSummary(choice);
    this.showCurves();
  }

  showStatuses() {
    const chosen = listOf(currentState().options.status);
    const toggle = (status) => {
      const statuses = chosen.includes(status) ? chosen.filter((one) => one !== status) : [...chosen, status];
      setOptions({ status: statuses.length > 0 ? listText(statuses) : null });
    };
    const focused = this.statuses.contains(document.activeElement) ? document.activeElement.dataset.status : null;
    replace(this.statuses, [...this.page.data.counts()].map(([status, count]) =>
      h("button", { "aria-pressed": String(chosen.includes(status)), "data-status": status, onclick: () => toggle(status) },
        h("span", { class: `state state-${String(status).replace(/[^a-z]/g, "")}` }, status), ` ${numberText(count)}`)));
    if (focused) [...this.statuses.children].find((button) => button.dataset.status === focused)?.focus();
  }

  showSummary(choice) {
    const { data } = this.page;
    const selected = selectedRows(this.page);
    const count = counted(data.count, "run");
    const all = choice.rows.length === data.count ? count : `${numberText(choice.rows.length)} of ${count}`;
    const reset = h("button", { class: "plain", onclick: () => setOptions({ sel: null }) }, "Reset the selection");
    const ids = selected.map((row) => data.ids[row]);
    replace(this.summary, all, selected.length > 0 && ` · ${numberText(selected.length)} selected`,
      selected.length === 2 && [" · ", h("a", { href: linkTo("compare", ids) }, "Compare them")],
      currentState().options.sel !== undefined && [" · ", reset]);
  }

  // Values that are the same in all runs need no columns.
  showSame() {
    const columns = constantColumns(this.page);
    this.same.hidden = columns.length === 0;
    replace(this.same, h("summary", {}, `${counted(columns.length, "value")} the same in all runs`),
      h("dl", { class: "same-values" }, columns.map((column) => h("div", {}, h("dt", {}, column.name),
        h("dd", {}, shortened(valueText(column.values[0]), 60) || "–")))));
  }

  toggleCurves() {
    setOptions({ curves: currentState().options.curves === "n" ? null : "n" });
  }

  showCurves() {
    const has = Object.keys(this.page.data.json.series ?? {}).length > 0 && chosenRows(this.page).rows.length > 0;
    const isShown = has && currentState().options.curves !== "n";
    this.curvesButton.hidden = !has;
    this.curvesButton.setAttribute("aria-pressed", String(isShown));
    this.side.hidden = !isShown;
    this.split.classList.toggle("has-side", isShown);
    const rows = selectedRows(this.page);
    if (!isShown) {
      this.curves?.close();
      this.curves = null;
      replace(this.side);
    } else if (this.curves) this.curves.update(rows);
    else {
      this.curves = curvesPanel(this.page, { rows });
      replace(this.side, this.curves.element);
    }
  }
}

function runsNone(page) {
  if (page.data.count === 0) {
    const { places = [] } = page.data.json;
    return ["There is no run", places.length > 0 && [" at ", h("span", { class: "mono" }, places.join(", "))], "."];
  }
  return ["No run matches. ", h("button", { onclick: () => setOptions({ where: null, status: null }) }, "Show all runs")];
}

// The input of a filter. The page applies it while the user types, and Enter keeps it in the history of the browser.
class FilterBox {
  constructor(page) {
    this.page = page;
    this.input = h("input", {
      type: "search", id: "filter", size: "34", placeholder: RUNS_EXAMPLE, autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      "aria-describedby": "filter-message", oninput: afterPause(200, () => this.apply(true)), onchange: () => this.apply(false),
    });
    this.element = h("label", { class: "filter", for: "filter" }, h("span", { class: "filter-label" }, "Filter"), this.input);
    this.message = h("p", { id: "filter-message", class: "filter-message", "aria-live": "polite" });
  }

  apply(replaces) {
    setOptions({ where: this.input.value.trim() || null }, { replaces });
  }

  update({ error, notes = [] }) {
    const { where = "" } = currentState().options;
    const isOther = where !== this.where; // else the user may be typing the next one
    this.where = where;
    if (isOther && this.input.value.trim() !== where.trim()) this.input.value = where;
    this.input.setAttribute("aria-invalid", String(Boolean(error)));
    this.message.className = `filter-message${error ? " is-error" : ""}`;
    replace(this.message, error || notes.join(" "));
  }
}

// The menu that shows and hides columns.
class ColumnMenu {
  constructor(page) {
    this.page = page;
    this.find = h("input", { type: "search", "aria-label": "Find a column", placeholder: "Find a column", oninput: () => this.showList() });
    this.list = h("div", { class: "menu-list" });
    this.element = append(menuBox(), h("summary", { class: "button" }, "Columns"), h("div", { class: "menu-body" }, this.find, this.list));
    this.element.addEventListener("toggle", () => this.showList());
  }

  update() {
    if (this.element.open && !this.list.contains(document.activeElement)) this.showList();
  }

  showList() {
    if (!this.element.open) return;
    const wanted = this.find.value.toLowerCase();
    const found = tableColumns(this.page)
      .filter(({ column }) => column.path !== "id" && columnTitle(column).toLowerCase().includes(wanted));
    replace(this.list, found.slice(0, 300).map(({ column, isShown }) =>
      h("label", {}, h("input", { type: "checkbox", checked: isShown, onchange: (event) => this.toggle(column, event.target.checked) }),
        h("span", {}, columnTitle(column)), h("span", { class: "faint" }, column.kind === "fact" ? "" : column.kind))),
    found.length > 300 && h("p", { class: "faint" }, `and ${numberText(found.length - 300)} more`));
  }

  toggle(column, isShown) {
    const { hide, show } = currentState().options;
    const without = (text) => listOf(text).filter((name) => name !== column.name);
    const [hidden, shown] = [without(hide), without(show)];
    (isShown ? shown : hidden).push(column.name);
    const textOf = (list) => (list.length > 0 ? listText(list) : null);
    setOptions({ hide: textOf(hidden), show: textOf(shown) }, { replaces: true });
  }
}
