// The log of a run, or the output of its program: the last part first, earlier parts on request, and new lines as they
// come. However much a program prints, and however long its lines, the page keeps a bounded part.

import { append, h, replace } from "./dom.js";
import { counted, sizeText } from "./format.js";

const LOG_TEXTS = {
  log: { file: "log.txt", label: "Log", empty: "The log is empty.", wraps: true },
  output: { file: "output.txt", label: "Output", empty: "The program has printed nothing yet.", wraps: false },
}; // programs print tables, whose columns a wrapped line would lose
const LOG_BYTES = 2 ** 17; // read at once of what is earlier
const LOG_LINES = 20000; // kept of a text that grows
const LOG_LETTERS = 2 ** 22; // kept of it before it begins anew with its last part
const LOG_LINE = 2 ** 19; // the same for its last line
const LOG_FAR = 2 ** 21; // bytes at once that are not read, but for their last part
const LOG_NEAR = 40; // pixels from the end within which the view follows new lines
const LOG_LEVEL = /^\[[^\]]*\] (DEBUG|INFO|WARNING|ERROR|CRITICAL)\b/;
// Escape sequences (ECMA-48): CSI such as colours, OSC such as titles and links, and the short ones.
const LOG_ESCAPES = new RegExp(
  String.raw`\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[ -/]*[0-Z\\^-~])`, "g");

export class LogPart {
  // `kind` is "log" or "output".
  constructor(page, id, kind, log) {
    this.page = page;
    this.id = id;
    this.kind = kind;
    const { file, label, wraps } = LOG_TEXTS[kind];
    this.level = "";
    this.list = h("div", { class: "log-lines" });
    const box = { class: wraps ? "log" : "log is-long", tabindex: "0", role: "region", "aria-label": label };
    this.box = h("div", { ...box, onscroll: () => this.scrolled() }, this.list);
    this.earlier = h("button", { type: "button", onclick: () => this.loadEarlier() }, "Load earlier");
    this.note = h("span", { class: "faint" });
    this.wrap = h("button", { type: "button", "aria-pressed": String(wraps), onclick: () => this.toggleWrap() }, "Wrap lines");
    this.ended = h("button", { type: "button", onclick: () => this.toEnd() }, "To the end");
    this.link = page.source.address(id, file);
    this.element = h("div", {}, h("div", { class: "toolbar" }, this.earlier, this.wrap, this.ended,
      this.link && h("a", { href: this.link, download: file }, "Download"), this.note), this.box);
    this.show(log);
  }

  // Show a part in place of all that is shown.
  show(log) {
    this.start = log.start ?? 0;
    this.end = log.end ?? 0;
    this.size = log.size ?? this.end;
    this.isBehind = false;
    this.raw = [];
    this.level = "";
    replace(this.list);
    append(this.list, this.newLines(log.text ?? ""));
    this.drop();
    this.showNote();
    requestAnimationFrame(() => this.toEnd());
  }

  showNote() {
    const isWhole = this.start <= 0;
    this.earlier.hidden = isWhole || !this.page.source.live;
    this.note.textContent = !this.size ? LOG_TEXTS[this.kind].empty
      : this.isBehind ? `There is more, ${sizeText(this.size)} in all. Go to the end to see it.`
        : isWhole ? `${sizeText(this.size)}, ${counted(this.list.children.length, "line")}`
          : `The last ${sizeText(this.size - this.start)} of ${sizeText(this.size)}`;
  }

  // Return the elements of a text that follows what is shown. It continues the last line if that has no end yet.
  newLines(text) {
    if (this.raw.length && this.raw.at(-1) !== "") this.list.lastElementChild.remove();
    const lines = ((this.raw.pop() ?? "") + text).split("\n");
    this.raw = this.raw.concat(lines);
    return (lines.at(-1) === "" ? lines.slice(0, -1) : lines).map((line) => this.line(line));
  }

  // A line of the log without a level belongs to the one before it. Output has no levels.
  line(text) {
    const shown = logShown(text);
    if (this.kind !== "log") return h("div", { class: "log-line" }, shown);
    const level = LOG_LEVEL.exec(shown)?.[1];
    if (level) this.level = level;
    else if (shown && !/^\s/.test(shown)) this.level = "";
    return h("div", { class: this.level ? `log-line log-${this.level.toLowerCase()}` : "log-line" }, shown);
  }

  get isAtEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < LOG_NEAR;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }

  scrolled() {
    if (this.isBehind && this.isAtEnd) this.follow();
  }

  // Whether no more should be added to what is shown.
  get isFull() {
    const letters = this.raw.reduce((sum, line) => sum + line.length, 0);
    return letters > LOG_LETTERS || this.raw.length > 2 * LOG_LINES || this.raw.at(-1)?.length > LOG_LINE;
  }

  toggleWrap() {
    const isWrapped = this.wrap.getAttribute("aria-pressed") !== "true";
    this.wrap.setAttribute("aria-pressed", String(isWrapped));
    this.box.classList.toggle("is-long", !isWrapped);
  }

  // Read what was written since. One read at a time: further changes lead to one more.
  async follow() {
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = true;
    try {
      do {
        this.again = false;
        const log = await this.read(this.end);
        const isTooMuch = log.end > log.start && (log.size - log.end > LOG_FAR || this.isFull);
        if (log.size < this.end || log.start > this.end || (isTooMuch && this.isAtEnd)) this.show(await this.read());
        else if (isTooMuch) this.wait(log);
        else {
          this.grow(log);
          if (log.end < log.size && log.end > log.start) this.again = true;
        }
      } while (this.again && this.element.isConnected);
    } catch (error) {
      this.note.textContent = error.message;
    } finally {
      this.reading = false;
    }
  }

  read(start) {
    return this.page.source.text(this.kind, this.id, start);
  }

  // While the reader is at an earlier part, add nothing more to a text that has become very long.
  wait(log) {
    this.isBehind = true;
    this.size = log.size;
    this.showNote();
  }

  grow(log) {
    if (!log.text) return;
    const follows = this.isAtEnd;
    append(this.list, this.newLines(log.text));
    this.end = log.end;
    this.size = log.size;
    if (follows) this.drop();
    this.showNote();
    if (follows) this.toEnd();
  }

  // Forget the first of very many lines.
  drop() {
    if (this.raw.length <= LOG_LINES) return;
    const dropped = this.raw.splice(0, this.raw.length - LOG_LINES * 3 / 4);
    for (const _ of dropped) this.list.firstElementChild.remove();
    this.start += new TextEncoder().encode(dropped.join("\n")).length + 1;
  }

  async loadEarlier() {
    this.earlier.disabled = true;
    try {
      const from = Math.max(0, this.start - LOG_BYTES);
      let text = "";
      for (let at = from; at < this.start;) {
        const log = await this.read(at);
        if (log.end <= at) break;
        text += logBefore(log, this.start);
        at = log.end;
      }
      this.prepend(text, from);
    } catch (error) {
      this.note.textContent = error.message;
    }
    this.earlier.disabled = false;
    if (this.earlier.hidden) this.box.focus({ preventScroll: true });
  }

  prepend(text, start) {
    const level = this.level;
    const height = this.box.scrollHeight - this.box.scrollTop;
    const lines = (text + (this.raw.shift() ?? "")).split("\n");
    this.raw = lines.concat(this.raw);
    this.list.firstElementChild?.remove();
    this.level = "";
    this.list.prepend(append(document.createDocumentFragment(), lines.map((line) => this.line(line))));
    this.level = level;
    this.start = start;
    this.showNote();
    this.box.scrollTop = this.box.scrollHeight - height;
  }
}

// Return a line as a terminal shows it: without colours, and with only the last state of a progress bar.
function logShown(line) {
  const states = line.replace(LOG_ESCAPES, "").split("\r");
  return states.findLast((state) => state !== "") ?? "";
}

// Return the text of a part up to a byte.
function logBefore(log, byte) {
  if (log.end <= byte) return log.text;
  return new TextDecoder().decode(new TextEncoder().encode(log.text).slice(0, Math.max(0, byte - log.start)));
}
