// The log of a run: its last part first, earlier parts on request, and new lines as they come.

import { h, replace } from "./dom.js";
import { counted, sizeText } from "./format.js";

const LOG_BYTES = 2 ** 17; // read at once of the earlier log
const LOG_LINES = 20000; // kept of a log that grows
const LOG_NEAR = 40; // pixels from the end within which the view follows new lines
const LOG_LEVEL = /^\[[^\]]*\] (DEBUG|INFO|WARNING|ERROR|CRITICAL)\b/;
const LOG_COLOURS = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, "g");

export class LogPart {
  constructor(page, id, log) {
    this.page = page;
    this.id = id;
    this.level = "";
    this.list = h("div", { class: "log-lines" });
    this.box = h("div", { class: "log", tabindex: "0", role: "region", "aria-label": "Log" }, this.list);
    this.earlier = h("button", { type: "button", onclick: () => this.loadEarlier() }, "Load earlier");
    this.note = h("span", { class: "faint" });
    this.wrap = h("button", { type: "button", "aria-pressed": "true", onclick: () => this.toggleWrap() }, "Wrap lines");
    this.ended = h("button", { type: "button", onclick: () => this.toEnd() }, "To the end");
    this.link = page.source.address(id, "log.txt");
    this.element = h("div", {}, h("div", { class: "toolbar" }, this.earlier, this.wrap, this.ended,
      this.link && h("a", { href: this.link, download: "log.txt" }, "Download"), this.note), this.box);
    this.show(log);
  }

  // Show a part of the log in place of all that is shown.
  show(log) {
    this.start = log.start ?? 0;
    this.end = log.end ?? 0;
    this.size = log.size ?? this.end;
    this.raw = [];
    this.level = "";
    replace(this.list);
    this.list.append(...this.newLines(log.text ?? ""));
    this.showNote();
    requestAnimationFrame(() => this.toEnd());
  }

  showNote() {
    const isWhole = this.start <= 0;
    this.earlier.hidden = isWhole || !this.page.source.live;
    this.note.textContent = !this.size ? "The log is empty."
      : isWhole ? `${sizeText(this.size)}, ${counted(this.list.children.length, "line")}`
        : `The last ${sizeText(this.size - this.start)} of ${sizeText(this.size)}`;
  }

  // Return the elements of a text that follows what is shown. It continues the last line if that has no end yet.
  newLines(text) {
    if (this.raw.length && this.raw.at(-1) !== "") this.list.lastElementChild.remove();
    const lines = ((this.raw.pop() ?? "") + text).split("\n");
    this.raw.push(...lines);
    return (lines.at(-1) === "" ? lines.slice(0, -1) : lines).map((line) => this.line(line));
  }

  // A line without a level belongs to the one before it.
  line(text) {
    const shown = logShown(text);
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
        const log = await this.page.source.log(this.id, this.end);
        if (log.size < this.end || log.start > this.end) this.show(await this.page.source.log(this.id));
        else this.grow(log);
        if (log.end < log.size && log.end > log.start) this.again = true;
      } while (this.again && this.element.isConnected);
    } catch (error) {
      this.note.textContent = error.message;
    } finally {
      this.reading = false;
    }
  }

  grow(log) {
    if (!log.text) return;
    const follows = this.isAtEnd;
    this.list.append(...this.newLines(log.text));
    this.end = log.end;
    this.size = log.size;
    if (follows) this.drop();
    this.showNote();
    if (follows) this.toEnd();
  }

  // Forget the first lines of a very long log.
  drop() {
    if (this.raw.length <= LOG_LINES) return;
    const dropped = this.raw.splice(0, LOG_LINES / 4);
    for (const _ of dropped) this.list.firstElementChild.remove();
    this.start += new TextEncoder().encode(dropped.join("\n")).length + 1;
  }

  async loadEarlier() {
    this.earlier.disabled = true;
    try {
      const from = Math.max(0, this.start - LOG_BYTES);
      let text = "";
      for (let at = from; at < this.start;) {
        const log = await this.page.source.log(this.id, at);
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
    this.raw.unshift(...lines);
    this.list.firstElementChild?.remove();
    this.level = "";
    this.list.prepend(...lines.map((line) => this.line(line)));
    this.level = level;
    this.start = start;
    this.showNote();
    this.box.scrollTop = this.box.scrollHeight - height;
  }
}

// Return a line as a terminal shows it: without colours, and with only the last state of a progress bar.
function logShown(line) {
  const states = line.replace(LOG_COLOURS, "").split("\r");
  return states.findLast((state) => state !== "") ?? "";
}

// Return the text of a part of the log up to a byte.
function logBefore(log, byte) {
  if (log.end <= byte) return log.text;
  return new TextDecoder().decode(new TextEncoder().encode(log.text).slice(0, Math.max(0, byte - log.start)));
}
