// The head of a run: its status, facts, the runs before and after it, and the menu that compares it with another one.

import { append, h } from "./dom.js";
import { agoText, counted, numberText, shortened, sizeText, spanText, timeText } from "./format.js";
import { currentState, linkTo, listOf } from "./state.js";
import { statusCell } from "./cells.js";
import { menuBox } from "./menu.js";
import { visibleRows } from "./table.js";
import { runFinder } from "./record.js";

export const RUN_OPTIONS = { part: null, file: null }; // options of the view of one run only

// Return the facts of the table of runs about one of them.
export function runFacts(data, row) {
  const facts = data.columns.filter((column) => column.kind === "fact").map((column) => [column.path, column.values[row]]);
  return Object.fromEntries(facts.filter(([, value]) => value !== null && value !== undefined));
}

// The status; if it is not certain, with the reason beside it.
export function runStatus(data, row) {
  const isCertain = data.fact(row, "certain") !== false;
  return [statusCell(data, row), !isCertain && runFaint(data.fact(row, "why") ?? "It is unknown whether it still runs.")];
}

export function runFactList(facts, data) {
  const { started, ended, seconds, size, files, host, pid, user, argv, cwd } = facts;
  const time = (iso) => h("time", { datetime: iso, title: timeText(iso, true) }, timeText(iso),
    data.json.live && runFaint(` (${agoText(iso, data.now)})`));
  const span = seconds ?? (facts.status === "running" && started ? (data.now - Date.parse(started)) / 1000 : null);
  const place = cwd ? `In ${cwd}` : null;
  return [
    ["Started", started && time(started)],
    ["Ended", ended && time(ended)],
    [facts.status === "running" ? "Running for" : "Duration", typeof span === "number" && spanText(span)],
    ["Host", host && [host, pid ? runFaint(`, process ${pid}`) : ""]],
    ["Size", typeof size === "number" && [sizeText(size), typeof files === "number" && runFaint(` in ${counted(files, "file")}`)]],
    ["User", user && String(user)],
    ["Command", Array.isArray(argv) && argv.length > 0 && h("span", { class: "mono", title: place }, shortened(argv.join(" "), 200))],
  ].filter(([, value]) => value);
}

function runFaint(text) {
  return h("span", { class: "faint" }, text);
}

// Return the runs before and after this one, in the order of the table.
export function runNeighbours(page, row) {
  let rows = visibleRows(page);
  if (!rows.includes(row)) rows = [...page.data.ids.keys()];
  const at = rows.indexOf(row);
  const address = (other) => (other === undefined ? null : linkTo("run", [page.data.ids[other]], { file: null }));
  return { before: address(rows[at - 1]), after: address(rows[at + 1]), at: at + 1, all: rows.length };
}

export function runMoves({ before, after, at, all }) {
  const link = (address, text) => (address
    ? h("a", { class: "step", href: address, "data-keep": text }, text)
    : h("span", { class: "step faint" }, text));
  return all > 1 && [link(before, "← Previous"), runFaint(`${numberText(at)} of ${numberText(all)}`), link(after, "Next →")];
}

export function runCompare(page, id) {
  if (page.data.count < 2) return null;
  const body = h("div", { class: "menu-body" });
  const details = append(menuBox(), h("summary", {}, "Compare with…"), body);
  const fill = () => {
    const show = (row, text) =>
      h("li", {}, h("a", { href: linkTo("compare", [id, page.data.ids[row]], RUN_OPTIONS), title: page.data.ids[row] }, text));
    const { input, list, note } = runFinder(page, { without: [id], label: "Runs to compare with", show });
    append(body, input, h("div", { class: "menu-list" }, list), note);
    input.focus();
  };
  details.addEventListener("toggle", () => details.open && !body.firstChild && fill());
  const chosen = listOf(currentState().options.sel).filter((other) => other !== id && page.data.rowOf.has(other));
  const link = chosen.length === 1 && h("a", { href: linkTo("compare", [id, chosen[0]], RUN_OPTIONS) }, "Compare with the selected run");
  return [link, details];
}
