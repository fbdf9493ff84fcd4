// One run: what it is, why it failed, its curves, values, output, log and files.

import { append, h, replace } from "./dom.js";
import { currentState, hashOf, linkTo } from "./state.js";
import { curvesPanel } from "./curves.js";
import { copyButton, keepingView } from "./values.js";
import { FilesPart } from "./files.js";
import { LogPart } from "./log.js";
import { recordOf } from "./record.js";
import { SOURCE_SILENT } from "./source.js";
import { RUN_OPTIONS, runCompare, runFactList, runFacts, runMoves, runNeighbours, runStatus } from "./runhead.js";
import { RUN_SECTIONS } from "./runparts.js";

const RUN_AGAIN = 2000; // milliseconds between two reads of a run that changes
const RUN_WATCHED = 100; // series whose new rows are requested; the curves request those that they show besides
const RUN_TEXTS = ["output", "log"];
const RUN_TICK = 10000; // milliseconds between two updates of its age
const RUN_BESIDE = new Set(["metrics", "params", "series", "fields"]); // sections that stand beside each other

export function runView(page, [id = ""]) {
  return new RunFrame(page, id);
}

// Shows a run, and says that there is no such run while there is none.
class RunFrame {
  constructor(page, id) {
    this.page = page;
    this.id = id;
    this.element = h("div", {});
    this.view = null;
    this.update();
  }

  get title() {
    return this.view ? this.id : "No such run";
  }

  update() {
    const exists = this.page.data.rowOf.has(this.id);
    if (exists && this.view) this.view.update();
    else if (exists) {
      this.view = new RunView(this.page, this.id);
      replace(this.element, this.view.element);
    } else if (this.view || !this.element.hasChildNodes()) {
      this.close();
      this.view = null;
      replace(this.element, runMissing(this.id));
    }
  }

  close() {
    this.view?.close();
  }
}

function runMissing(id) {
  return h("div", { class: "empty" },
    h("h2", {}, "There is no such run"),
    h("p", {}, "The page has no run ", h("span", { class: "mono" }, id || "without a name"), ". It may have been removed or renamed."),
    h("p", {}, h("a", { href: linkTo("runs", [], RUN_OPTIONS) }, "Back to the runs")));
}

class RunView {
  constructor(page, id) {
    this.page = page;
    this.id = id;
    this.run = null;
    this.seen = "";
    this.head = h("div", { class: "run-head" });
    this.anchors = h("nav", { class: "run-parts", "aria-label": "Parts of the run" });
    this.notes = h("div", { class: "run-notes" });
    this.sections = new Map(RUN_SECTIONS.map(([name, title]) => [name, runSection(name, title)]));
    this.element = h("article", { class: "run-page", "aria-busy": "true" }, this.head, this.anchors, this.notes,
      runArranged(this.sections));
    this.showHead();
    replace(this.notes, h("p", { class: "faint" }, "Reading…"));
    this.load();
    this.texts = new Map();
    this.watch();
    this.ticks = page.source.live ? setInterval(() => this.isRunning && this.showHead(), RUN_TICK) : 0;
  }

  get row() {
    return this.page.data.rowOf.get(this.id);
  }

  get isRunning() {
    return this.page.data.fact(this.row, "status") === "running";
  }

  // Request events about what is shown. The output is watched only while there may be more of it.
  watch() {
    const outputs = this.isRunning && this.texts.has("output") ? [this.id] : [];
    const wanted = { series: this.seriesNames(), logs: [this.id], outputs };
    if (this.watched === JSON.stringify(wanted)) return;
    this.watched = JSON.stringify(wanted);
    this.stopWatching?.();
    this.stopWatching = this.page.source.watch(wanted, (event) => this.heard(event));
  }

  seriesNames() {
    const names = this.page.data.seriesOf([this.row]).map(([name]) => name).slice(0, RUN_WATCHED);
    return Object.fromEntries(names.map((name) => [name, [this.id]]));
  }

  // Options of the address or the table of runs have changed.
  update() {
    const before = this.seen;
    this.showHead();
    this.curves?.update([this.row]);
    if (before !== this.seen) this.loadSoon();
  }

  close() {
    this.stopWatching();
    clearInterval(this.ticks);
    clearTimeout(this.later);
    this.isClosed = true;
    this.curves?.close();
    const state = currentState();
    if (state.view !== "run") runRemember(RUN_OPTIONS);
  }

  heard(event) {
    if (event.ids?.length && !event.ids.includes(this.id)) return;
    if (RUN_TEXTS.includes(event.kind)) this.texts.get(event.kind)?.follow();
    else if (event.kind === "rows") this.loadSoon();
    else if (event.kind === "recovered") {
      for (const text of this.texts.values()) text.follow();
      this.loadSoon();
    }
  }

  // Read the run again, after a pause: a run may change many times a second.
  loadSoon() {
    this.later ??= setTimeout(() => {
      this.later = undefined;
      this.load();
    }, RUN_AGAIN);
  }

  async load() {
    const run = await recordOf(this.page, this.id, () => this.showNotes(SOURCE_SILENT));
    if (this.isClosed) return;
    if (this.run && run.partial) {
      this.showNotes(run.partial);
      return;
    }
    const isFirst = !this.run;
    this.run = run;
    this.showHead();
    this.showNotes();
    for (const [name, , values, build] of RUN_SECTIONS) if (build) this.fill(name, values(run), () => build(run, this.page));
    this.showCurves();
    RUN_TEXTS.forEach((kind) => this.showText(kind));
    this.watch();
    this.showFiles();
    this.showAnchors();
    this.element.removeAttribute("aria-busy");
    if (isFirst) this.toPart(currentState().options.part);
  }

  // Fill a section if its values are others than before.
  fill(name, values, build) {
    const section = this.sections.get(name);
    const seen = JSON.stringify(values);
    if (section.seen === seen) return;
    section.seen = seen;
    keepingView(section.body, build);
    section.element.hidden = !section.body.hasChildNodes();
  }

  // Put a part that updates itself into a section.
  own(name, element) {
    const section = this.sections.get(name);
    replace(section.body, element);
    section.element.hidden = false;
  }

  showCurves() {
    if (this.curves || !this.page.data.seriesOf([this.row]).length) return;
    this.curves = curvesPanel(this.page, { rows: [this.row] });
    this.own("curves", this.curves.element);
  }

  showText(kind) {
    const text = this.run[kind];
    if (!text || !(text.text || text.size || this.isRunning)) return;
    if (this.texts.has(kind)) this.texts.get(kind).follow();
    else {
      const part = new LogPart(this.page, this.id, kind, text);
      this.texts.set(kind, part);
      this.own(kind, part.element);
    }
  }

  showFiles() {
    const { files, partial } = this.run;
    if (!this.files && partial) return;
    if (!this.files) {
      this.files = new FilesPart(this.page, this.id, { chosen: (file) => runRemember({ file }) });
      this.own("files", files.length ? this.files.element : h("p", { class: "faint" }, "The run has no files."));
    } else if (files.length && !this.files.element.isConnected) this.own("files", this.files.element);
    this.files.update(files);
    const { file } = currentState().options;
    if (file && !this.files.key) this.files.show(file);
  }

  // Show the problems of the run; `trouble` is why what is shown is not current.
  showNotes(trouble = this.run?.partial) {
    const notes = [...(trouble ? [trouble] : []), ...(this.run?.problems ?? [])];
    replace(this.notes, notes.length > 0 && h("ul", { class: "problems" }, notes.map((note) => h("li", {}, note))));
  }

  showAnchors() {
    const shown = [...this.sections.values()].filter(({ element }) => !element.hidden);
    keepingView(this.anchors, () => shown.map(({ name, title }) => h("a", {
      href: linkTo("run", [this.id], { part: name }), "data-keep": `part ${name}`,
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        runRemember({ part: name });
        this.toPart(name, true);
      },
    }, title)));
  }

  toPart(name, isChosen = false) {
    const section = this.sections.get(name);
    if (!section || section.element.hidden) return;
    section.element.scrollIntoView({ block: "start" });
    if (isChosen) section.heading.focus({ preventScroll: true });
  }

  // Show what has changed of the head, so that an open menu stays.
  showHead() {
    const { data } = this.page;
    const facts = runFacts(data, this.row);
    this.seen = JSON.stringify(facts);
    if (!this.head.firstChild) this.buildHead(facts.url);
    replace(this.state, runStatus(data, this.row));
    const moves = runNeighbours(this.page, this.row);
    if (JSON.stringify(moves) !== this.moved) keepingView(this.moves, () => runMoves(moves));
    this.moved = JSON.stringify(moves);
    const list = runFactList({ ...this.run?.facts, ...facts }, data);
    replace(this.facts, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  buildHead(url) {
    this.state = h("p", { class: "run-state" });
    this.moves = h("div", { class: "toolbar" });
    this.facts = h("dl", { class: "facts" });
    append(this.head,
      h("div", { class: "run-title" }, h("h2", {}, this.id), this.state,
        h("div", { class: "toolbar run-moves" }, this.moves, runCompare(this.page, this.id))),
      url && h("p", { class: "run-url" }, h("span", { class: "mono" }, url), " ", copyButton(url, "the URL")),
      this.facts);
  }
}

function runSection(name, title) {
  const heading = h("h3", { tabindex: "-1" }, title);
  const body = h("div", { class: "run-body" });
  const element = h("section", { class: `run-section is-${name}`, hidden: true }, heading, body);
  return { name, title, heading, body, seen: undefined, element };
}

// Return the sections in order; those with values stand beside each other if there is room.
function runArranged(sections) {
  const beside = h("div", { class: "run-values" });
  const arranged = [];
  for (const [name, { element }] of sections) {
    if (!RUN_BESIDE.has(name)) arranged.push(element);
    else if (append(beside, element).children.length === 1) arranged.push(beside);
  }
  return arranged;
}

// Keep options of this view in the address, without an entry for the back button.
function runRemember(options) {
  const state = currentState();
  history.replaceState(null, "", hashOf({ ...state, options: { ...state.options, ...options } }));
}
