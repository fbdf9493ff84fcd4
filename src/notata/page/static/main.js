// The frame of the page: its header, and below it the view that the address names.

import { afterPause, h, replace } from "./dom.js";
import { agoText, counted, timeText } from "./format.js";
import { currentState, linkTo, onState } from "./state.js";
import { openSource } from "./source.js";
import { RunData } from "./rundata.js";
import { runsView } from "./runs.js";
import { curveView } from "./curve.js";
import { plotsView } from "./scatter.js";
import { runView } from "./run.js";
import { compareView } from "./compare.js";

// A view is a function of the page and its arguments. It returns {element, title, update(), close()}: `update` is called
// when options of the address or the runs have changed, `close` when another view comes. With `focus()` it puts the
// keyboard focus where its keys work.
const VIEWS = { runs: runsView, plots: plotsView, curve: curveView, run: runView, compare: compareView };
const TABS = [["runs", "Runs"], ["plots", "Plots"], ["compare", "Compare"]];

const PAGE_TROUBLES = {
  problem: "The storage does not answer.",
  lost: "notata view does not answer. It may have ended, or the connection is lost.",
  ended: "notata view has ended. The page shows what it knew then.",
};

class Page {
  constructor(root) {
    this.source = openSource();
    this.data = null;
    this.view = null;
    this.viewKey = "";
    this.trouble = null; // why the page is not current: {kind, text, since}
    this.made = h("p", { class: "made" });
    this.header = h("header", { class: "header" });
    this.main = h("main", { class: "main", id: "main", tabindex: "-1" });
    this.status = h("p", { class: "status", role: "status" });
    replace(root, h("a", { class: "skip", href: "#main", onclick: (event) => this.skip(event) }, "Skip to the content"),
      this.header, this.status, this.main);
  }

  skip(event) {
    event.preventDefault();
    this.main.focus();
  }

  // Read the runs, and show them. After an error the previous ones stay.
  async load() {
    try {
      this.data = new RunData(await this.source.runs());
      if (this.trouble?.kind === "load") this.trouble = null;
    } catch (error) {
      this.trouble ??= { kind: "load", text: error.message, since: Date.now() };
    }
    this.showTrouble();
    if (!this.data) return;
    this.showHeader();
    this.show();
  }

  showTrouble() {
    const text = this.trouble?.text ?? "";
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.className = `status${text ? " is-error" : ""}`;
    if (this.data) this.showFreshness();
  }

  showFreshness() {
    replace(this.made, pageFreshness(this.data, this.trouble));
    this.made.classList.toggle("is-error", Boolean(this.trouble));
  }

  // The storage or the server fails: say so on every view, until it has recovered.
  fail({ kind, text }) {
    if (kind === "lost" && this.trouble?.kind === "ended") return;
    this.trouble = { kind, text: text || PAGE_TROUBLES[kind], since: this.trouble?.since ?? Date.now() };
    this.showTrouble();
  }

  recover() {
    this.trouble = null;
    this.load();
  }

  showHeader() {
    const { json } = this.data;
    const { view } = currentState();
    const tabs = TABS.map(([name, title]) =>
      h("a", { href: linkTo(name), class: "tab", "aria-current": name === view ? "page" : null }, title));
    const notes = [...(json.problems ?? []), ...(json.left_out ?? [])];
    this.showFreshness();
    replace(this.header,
      h("a", { class: "home", href: linkTo("runs") }, h("h1", {}, json.title)),
      h("nav", { "aria-label": "Views" }, tabs),
      this.made,
      notes.length > 0 && h("details", { class: "notes" },
        h("summary", {}, counted(notes.length, "note")), h("ul", {}, notes.map((note) => h("li", {}, note)))));
  }

  show() {
    const { view, args } = currentState();
    const name = Object.hasOwn(VIEWS, view) ? view : "runs";
    const key = [name, ...args].join("/");
    if (key === this.viewKey && this.view) {
      this.view.update();
      return;
    }
    const isFirst = !this.viewKey;
    this.view?.close();
    this.viewKey = key;
    this.view = VIEWS[name](this, args);
    replace(this.main, this.view.element);
    document.title = [this.view.title, this.data.json.title].filter(Boolean).join(" · ");
    scrollTo(0, 0);
    if (this.view.focus) this.view.focus();
    else if (!isFirst) this.main.focus({ preventScroll: true });
    this.showHeader();
  }

  watchRuns() {
    const again = afterPause(200, () => this.load());
    this.source.watch({}, (event) => {
      if (event.kind === "runs") again();
      else if (event.kind === "recovered") this.recover();
      else if (Object.hasOwn(PAGE_TROUBLES, event.kind)) this.fail(event);
    });
  }
}

function pageFreshness({ json, made }, trouble) {
  if (trouble) return `Not current since ${timeText(trouble.since).split(" ")[1]}`;
  if (json.live) return json.stale ? "From index.csv; the runs are being listed" : "Live";
  return h("time", { datetime: json.made, title: timeText(json.made, true) }, `As of ${timeText(json.made)} (${agoText(json.made)})`);
}

const page = new Page(document.getElementById("page"));
onState(() => page.data && (page.showHeader(), page.show()));
await page.load();
if (page.source.live) page.watchRuns();
