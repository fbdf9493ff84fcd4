// Exceptions of a run: type, message, frames with their code, and the chain of causes.

import { h } from "./dom.js";
import { agoText, counted, timeText } from "./format.js";

// Return the elements that say why a run ended early; nothing if it did not.
export function failureParts(run, now) {
  const { status } = run.facts ?? {};
  const parts = [];
  if (status === "failed" || run.failure) parts.push(failureReason(run));
  else if (status === "died") parts.push(failureOfDead(run, now));
  else if (status === "unreadable") parts.push(failureText("notata cannot read the metadata of this run.", run));
  else if (status === "replacing") parts.push(failureText("The run is being replaced.", run));
  return parts.flat().filter(Boolean);
}

function failureReason(run) {
  const { failure, facts = {} } = run;
  if (failure) return exceptionView(failure);
  const reason = facts.failure_reason || facts.why;
  return [
    h("p", { class: "failure-message" }, reason || "The run failed without saying why."),
    run.output?.size > 0 && h("p", { class: "faint" }, "The end of the output may say more."),
  ];
}

function failureOfDead(run, now) {
  const text = run.output?.size ? "output" : "log";
  const seen = run.facts.last_seen ?? failureLatest(run.files);
  return h("div", { class: "prose" },
    h("p", {}, "The run never ended: its process is gone, or sends no heartbeats any more. ",
      "A kill, a full memory or a time limit of the cluster leaves no exception; ", `the end of the ${text} may say more.`),
    run.facts.why && h("p", {}, run.facts.why),
    seen && h("p", {}, "Last sign of life: ", h("time", { datetime: seen }, `${timeText(seen, true)} (${agoText(seen, now)})`)));
}

function failureText(text, run) {
  return h("div", { class: "prose" }, h("p", {}, text), run.facts.why && h("p", {}, run.facts.why));
}

function failureLatest(files = []) {
  return files.reduce((latest, file) => (file.modified > latest ? file.modified : latest), "");
}

// Return an exception with those that led to it.
function exceptionView(failure) {
  const chain = Array.isArray(failure.chain) ? failure.chain : [];
  return h("div", { class: "failure" }, failureOne(failure, ""), chain.map((one) => failureOne(one, one.relation ?? "")));
}

function failureOne(one, relation) {
  const frames = one.frames ?? [];
  return h("div", { class: "failure-one" },
    relation && h("p", { class: "failure-relation" }, relation),
    h("p", { class: "failure-message" }, h("strong", {}, one.type || "Failure"), one.message ? ": " : "", one.message),
    frames.length > 0 && h("ol", { class: "frames" }, frames.map(failureFrame)),
    !frames.length && one.text && h("pre", { class: "code", tabindex: "0", "aria-label": "Traceback" }, one.text));
}

function failureFrame(frame) {
  const place = [frame.file, frame.line].filter((part) => part !== undefined && part !== "").join(":");
  return h("li", {},
    h("span", { class: "frame-place" }, h("span", { class: "mono" }, place || "Unknown file"),
      frame.function && [" in ", h("span", { class: "mono" }, frame.function)]),
    frame.code && h("pre", { class: "code", tabindex: "0", "aria-label": `Code at ${place}` }, frame.code));
}

// Return the exceptions that the run caught, the last ones of all.
export function caughtView(run) {
  const caught = run.caught ?? [];
  const all = run.caught_in_all ?? caught.length;
  if (!caught.length) return all ? h("p", {}, counted(all, "caught exception")) : null;
  return [
    all > caught.length && h("p", { class: "faint" }, `The last ${caught.length} of ${all}`),
    caught.map((one, place) => h("details", { class: "caught", "data-keep": `caught ${place}` },
      h("summary", {}, `${one.type || "Exception"}${one.message ? `: ${one.message.split("\n")[0]}` : ""}`),
      exceptionView(one))),
  ];
}
