// Where the data come from: embedded in a report, or fetched from the server of `notata view`. Both have the same keys.

import { afterPause } from "./dom.js";
import { restored } from "./format.js";

class SourceError extends Error {}

const SOURCE_PATIENCE = 15000; // milliseconds until the page says that an answer is missing
const SOURCE_WATCHED = 400; // series, logs and outputs of the page whose changes are requested; the server allows 500
const SOURCE_LETTERS = 30000; // of their names in the address of the stream; the server allows 64 kB
const SOURCE_PAUSES = [5000, 60000]; // shortest and longest pause before a refused stream is requested again
export const SOURCE_SILENT = "The storage does not answer. The page keeps waiting.";

// Return an answer. If it takes long, `tell` is called once, and the request goes on.
export async function patiently(answer, tell) {
  const timer = setTimeout(tell, SOURCE_PATIENCE);
  try {
    return await answer;
  } finally {
    clearTimeout(timer);
  }
}

export function openSource() {
  const blocks = new Map();
  for (const block of document.querySelectorAll("script[data-key]")) blocks.set(block.dataset.key, block);
  return blocks.has("runs") ? new EmbeddedSource(blocks) : new FetchedSource();
}

// Return the path of a file of a run in an address.
function sourceKey(key) {
  return key.split("/").map(encodeURIComponent).join("/");
}

// Return the key of the curves of a column in a report, which is that of `curves_key` of the report's writer.
function sourceCurves(series, column) {
  return ["curves", ...[series, column].map((name) => name.replaceAll("%", "%25").replaceAll("/", "%2F"))].join("/");
}

// The data of a report. Each block is parsed when it is first used.
class EmbeddedSource {
  live = false;

  constructor(blocks) {
    this.blocks = blocks;
    this.parsed = new Map();
  }

  get(key) {
    if (!this.parsed.has(key)) {
      const block = this.blocks.get(key);
      if (!block) return null;
      this.parsed.set(key, JSON.parse(block.textContent));
    }
    return this.parsed.get(key);
  }

  async runs() {
    return this.get("runs");
  }

  async curves(series, column, { runs, smooth = 0 } = {}) {
    const found = this.get(sourceCurves(series, column));
    if (!found) throw new SourceError(`The report does not have the curves of ${column}.`);
    const wanted = runs && new Set(runs);
    const curves = found.curves.filter((curve) => !wanted || wanted.has(curve.run)).map(sourceCurve);
    return { ...found, curves: smooth ? curves.map((curve) => smoothedCurve(curve, smooth)) : curves };
  }

  async run(id) {
    const found = this.get(`run/${id}`);
    if (!found) throw new SourceError("The report has only the row of this run in the table.");
    return found;
  }

  async file(id, key) {
    return this.get(`file/${id}/${key}`) ?? { key, kind: "other", left_out: "The report does not have this file." };
  }

  async text(kind, id) {
    return (await this.run(id))[kind];
  }

  address() {
    return null;
  }

  watch() {
    return () => {};
  }
}

// The data of the server, which reads what the page requests.
class FetchedSource {
  live = true;

  async get(path, query = {}) {
    const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== ""));
    let response;
    try {
      response = await fetch(`api/${path}${given.size ? `?${given}` : ""}`, { credentials: "same-origin" });
    } catch {
      throw new SourceError("notata view does not answer. Has it ended?");
    }
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new SourceError(body.error ?? `The server answered with the code ${response.status}.`);
    return body;
  }

  runs() {
    return this.get("runs");
  }

  async curves(series, column, { runs, x = "step", from, to, smooth } = {}) {
    const query = { runs: runs?.map(encodeURIComponent).join(","), x, from, to, smooth: smooth || undefined };
    const found = await this.get(`curves/${encodeURIComponent(series)}/${encodeURIComponent(column)}`, query);
    return { ...found, curves: found.curves.map(sourceCurve) };
  }

  run(id) {
    return this.get(`run/${encodeURIComponent(id)}`);
  }

  file(id, key) {
    return this.get(`file/${encodeURIComponent(id)}/${sourceKey(key)}`);
  }

  // Return a part of the log or of the output, as `kind` says: from a byte on, or the last part.
  text(kind, id, start) {
    return this.get(`${kind}/${encodeURIComponent(id)}`, { start });
  }

  address(id, key) {
    return `api/raw/${encodeURIComponent(id)}/${sourceKey(key)}`;
  }

  // Report changes of what is on the screen: `wanted` is {series: {name: [ids]}, logs: [ids], outputs: [ids]}.
  // Returns a function that ends it.
  watch(wanted, tell) {
    this.events ??= new SourceEvents();
    return this.events.add({ wanted, tell });
  }
}

// The one stream of events of the page, for all its watchers: a browser opens few connections to a server. A page that
// is not on the screen has no stream. When it is back, its watchers get the event "recovered", and read again.
class SourceEvents {
  constructor() {
    this.watchers = new Set();
    this.stream = null;
    this.query = "";
    this.isBehind = false;
    this.pause = SOURCE_PAUSES[0];
    this.connect = afterPause(30, () => this.connectNow());
    document.addEventListener("visibilitychange", () => this.connectNow());
    this.connectNow();
  }

  add(watcher) {
    this.watchers.add(watcher);
    this.connect();
    return () => {
      this.watchers.delete(watcher);
      this.connect();
    };
  }

  connectNow() {
    clearTimeout(this.retry);
    if (document.hidden) {
      this.isBehind ||= Boolean(this.stream);
      this.close();
      return;
    }
    const query = JSON.stringify(sourceWanted([...this.watchers].map(({ wanted }) => wanted)));
    if (this.stream && query === this.query) return;
    this.close();
    this.query = query;
    this.stream = new EventSource(`api/events?watch=${encodeURIComponent(query)}`);
    this.stream.onmessage = (event) => this.tellAll(JSON.parse(event.data));
    this.stream.onopen = () => this.opened();
    this.stream.onerror = () => this.lost();
  }

  opened() {
    if (this.isBehind) this.tellAll({ kind: "recovered" });
    this.isBehind = false;
    this.pause = SOURCE_PAUSES[0];
  }

  // The browser connects again by itself, unless the server has refused the stream.
  lost() {
    if (!this.isBehind) this.tellAll({ kind: "lost" });
    this.isBehind = true;
    if (this.stream?.readyState === EventSource.CLOSED) this.refused(this.stream.url);
  }

  async refused(address) {
    this.close();
    this.retry = setTimeout(() => this.connectNow(), this.pause);
    this.pause = Math.min(2 * this.pause, SOURCE_PAUSES[1]);
    const text = await sourceRefusal(address);
    if (text && !this.stream) this.tellAll({ kind: "lost", text });
  }

  tellAll(event) {
    for (const { tell } of [...this.watchers]) tell(event);
  }

  close() {
    this.stream?.close();
    this.stream = null;
  }
}

// Return why the server refuses a stream; an empty text if it does not say so.
async function sourceRefusal(address) {
  const stop = new AbortController();
  try {
    const response = await fetch(address, { credentials: "same-origin", signal: stop.signal });
    return response.ok ? "" : (await response.json()).error ?? "";
  } catch {
    return "";
  } finally {
    stop.abort(); // an answer without error would not end
  }
}

// Join what several parts of the page watch, as much as the server allows. `series` has no prototype: a series may be
// called "constructor".
function sourceWanted(all) {
  const [logs, outputs] = ["logs", "outputs"].map((kind) =>
    [...new Set(all.flatMap((wanted) => wanted[kind] ?? []))].slice(0, SOURCE_WATCHED / 2));
  const series = Object.create(null);
  let left = SOURCE_WATCHED - logs.length - outputs.length;
  let letters = SOURCE_LETTERS;
  for (const [name, ids] of all.flatMap((wanted) => Object.entries(wanted.series ?? {}))) {
    letters -= encodeURIComponent(name).length;
    for (const id of ids) {
      if (series[name]?.includes(id)) continue;
      letters -= encodeURIComponent(id).length + 10;
      if (left <= 0 || letters < 0) return { series, logs, outputs };
      (series[name] ??= []).push(id);
      left -= 1;
    }
  }
  return { series, logs, outputs };
}

// Return a curve whose numbers are complete.
function sourceCurve(curve) {
  return { ...curve, y: restored([...curve.y], curve.nonfinite) };
}

// Return a curve with an exponential moving average without the bias of its start, as `notata curve --smooth` draws it.
function smoothedCurve(curve, weight) {
  let average = 0;
  let left = 1;
  const y = curve.y.map((value) => {
    if (!Number.isFinite(value)) return value;
    average = weight * average + (1 - weight) * value;
    left *= weight;
    return average / (1 - left);
  });
  return { ...curve, y, smoothed: true };
}
