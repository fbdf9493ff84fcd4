// Parts that all views of runs share: tables of values, buttons that copy, long lists, and updates that keep the view.

import { append, h, replace } from "./dom.js";
import { counted, shortened, valueText } from "./format.js";

const VALUES_SHOWN = 100;
const VALUES_FILTERED = 20;
const VALUES_LONG = 400; // characters of a value

// Return the values of nested objects as pairs of a dotted name and a value. Lists and empty objects are values.
export function flatValues(object, prefix = "") {
  const pairs = [];
  for (const [name, value] of Object.entries(object ?? {})) {
    const path = prefix ? `${prefix}.${name}` : name;
    if (valuesIsObject(value) && Object.keys(value).length) pairs.push(...flatValues(value, path));
    else pairs.push([path, value]);
  }
  return pairs;
}

function valuesIsObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

// Return the whole value as text, as it is copied.
function fullText(value) {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}

// Return a cell with a rounded value; its title, and what is copied, is the whole one.
export function valueCell(value, { tag = "td", class: name = "", digits = 4 } = {}) {
  const full = fullText(value);
  const text = value === null ? "none" : valueText(value, digits);
  const kind = typeof value === "number" ? "number" : value === null || text === "" ? "faint" : "";
  const title = text === full || value === null ? null : full.slice(0, 2000);
  return h(tag, { class: `value ${kind} ${name}`.trim(), title, "data-full": full }, text === "" ? "empty" : valuesText(text));
}

// A long text opens on request.
function valuesText(text) {
  if (text.length <= VALUES_LONG) return text;
  return h("details", {}, h("summary", {}, shortened(text, VALUES_LONG / 2)), text);
}

// Return a table of names and values, with a filter if it is long.
export function valuesTable(pairs, label) {
  const isNumeric = pairs.every(([, value]) => typeof value === "number");
  const list = longList(
    pairs,
    ([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), valueCell(value)),
    { tag: "tbody", textOf: ([name, value]) => `${name} ${fullText(value)}`, label, span: 2 },
  );
  const table = h("table", { class: `values${isNumeric ? " is-numeric" : ""}`, oncopy: copyFullValues },
    h("caption", { class: "hidden-text" }, label), list.body);
  return h("div", {}, list.filter, h("div", { class: "scroll", "data-keep": `table ${label}` }, table));
}

// Return a table with titles of columns, in a part that scrolls sideways.
export function scrolledTable(label, titles, body, properties = {}) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", { ...properties, class: `data-table ${properties.class ?? ""}`.trim() },
      h("caption", { class: "hidden-text" }, label), h("thead", {}, h("tr", {}, titles)), body));
}

// Return the body of a long list: the first items, a button that shows more, and a filter if there are many.
export function longList(items, show, { tag = "ul", textOf, label, span = 1, most = VALUES_SHOWN }) {
  const body = h(tag);
  let shown = most;
  let wanted = "";
  const fill = () => {
    const found = wanted ? items.filter((item) => textOf(item).toLowerCase().includes(wanted)) : items;
    replace(body, found.slice(0, shown).map(show));
    if (found.length > shown) append(body, valuesRow(tag, span, moreButton(found.length - shown)));
    if (!found.length) append(body, valuesRow(tag, span, h("span", { class: "faint" }, "Nothing matches.")));
  };
  const moreButton = (left) => h("button", {
    type: "button",
    onclick: () => {
      const at = Math.min(shown, body.children.length - 1);
      shown += 5 * most;
      fill();
      valuesFocus(body.children[at]);
    },
  }, `Show ${Math.min(left, 5 * most) === left ? "the remaining" : `${5 * most} of`} ${left}`);
  fill();
  const filter = textOf && items.length > VALUES_FILTERED ? h("input", {
    type: "search", class: "find", "data-keep": `filter ${label}`,
    placeholder: `Filter ${counted(items.length, "row")}`, "aria-label": `Filter: ${label}`,
    oninput: (event) => { wanted = event.target.value.trim().toLowerCase(); fill(); },
  }) : null;
  return { body, filter };
}

function valuesRow(tag, span, content) {
  return tag === "tbody" ? h("tr", {}, h("td", { colspan: span }, content)) : h("li", {}, content);
}

function valuesFocus(element) {
  const target = element?.querySelector("button, a") ?? element;
  if (!target) return;
  if (!target.matches("button, a")) target.tabIndex = -1;
  target.focus();
}

// Put the whole values on the clipboard where cells show rounded ones. A part of one cell is copied as it is.
export function copyFullValues(event) {
  const selection = getSelection();
  const lines = [];
  for (const row of event.currentTarget.rows) {
    const cells = [...row.cells].filter((cell) => selection.containsNode(cell, true));
    if (cells.length) lines.push(cells.map((cell) => cell.dataset.full ?? cell.textContent).join("\t"));
  }
  const text = selection.toString().trim();
  if (!lines.length || (lines.length === 1 && !lines[0].includes("\t") && valuesIsPart(selection, text))) return;
  event.clipboardData.setData("text/plain", lines.join("\n"));
  event.preventDefault();
}

function valuesIsPart(selection, text) {
  const node = selection.anchorNode;
  return node === selection.focusNode && node.nodeType === Node.TEXT_NODE && text.length < node.data.trim().length;
}

export function copyButton(text, label) {
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${label}`, "data-keep": `copy ${label}` }, "Copy");
  const say = (answer) => {
    button.textContent = answer;
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      say("Select the text and copy it");
    }
  });
  return button;
}

// Fill an element anew, and keep what the reader did in it: focus, open details, typed filters, scrolled parts. They
// are found again by their `data-keep`.
export function keepingView(element, build) {
  const kept = new Map();
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
  for (const part of element.querySelectorAll("[data-keep]")) {
    const { open, value, scrollTop, scrollLeft } = part;
    kept.set(part.dataset.keep, { open, value, scrollTop, scrollLeft });
  }
  replace(element, build());
  for (const part of element.querySelectorAll("[data-keep]")) valuesRestore(part, kept.get(part.dataset.keep));
  if (focused) [...element.querySelectorAll("[data-keep]")].find((part) => part.dataset.keep === focused)?.focus();
}

function valuesRestore(part, before) {
  if (!before) return;
  if (part instanceof HTMLDetailsElement) part.open = before.open;
  if (part instanceof HTMLInputElement && before.value) {
    part.value = before.value;
    part.dispatchEvent(new Event("input"));
  }
  part.scrollTop = before.scrollTop;
  part.scrollLeft = before.scrollLeft;
}

// Return metrics without the smallest and largest values of series: the table of series has them.
export function withoutExtremes(metrics) {
  const isExtreme = (name) => /\.(min|max)$/.test(name) && name.slice(0, -4) in metrics;
  return Object.fromEntries(Object.entries(metrics).filter(([name]) => !isExtreme(name)));
}
