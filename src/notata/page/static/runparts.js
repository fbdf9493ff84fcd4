// The parts of a run that are tables and lists: pictures, values, series, environment, resumes, workers and mirror.

import { h } from "./dom.js";
import { counted, numberText, timeText } from "./format.js";
import { flatValues, scrolledTable, valueCell, valuesTable, withoutExtremes } from "./values.js";
import { caughtView, failureParts } from "./failure.js";
import { galleryOf } from "./gallery.js";

// The sections of a run in order: [name, title, values, build]. A section is built anew when its values have changed;
// those without are parts that update themselves.
export const RUN_SECTIONS = [
  ["failure", "What went wrong", runReasons, (run, page) => failureParts(run, page.data.now)],
  ["caught", "Caught exceptions", (run) => [run.caught, run.caught_in_all], caughtView],
  ["pictures", "Pictures", runPictures, (run, page) => runPictures(run).length > 0 && galleryOf(page, runPictures(run))],
  ["curves", "Curves"],
  ["metrics", "Metrics", (run) => run.metrics, (run) => runValues(withoutExtremes(run.metrics), "Metrics")],
  ["params", "Parameters", (run) => run.params, (run) => runValues(run.params, "Parameters")],
  ["series", "Series", (run) => run.series, (run) => runSeries(run.series)],
  ["fields", "Own fields", (run) => run.fields, runFields],
  ["output", "Output"],
  ["log", "Log"],
  ["files", "Files"],
  ["environment", "Environment", (run) => run.environment, (run) => runEnvironment(run.environment)],
  ["resumes", "Resumes", (run) => run.resumes, (run) => runResumes(run.resumes)],
  ["places", "Workers and mirror", (run) => [run.workers, run.mirror], runPlaces],
];

function runReasons({ failure, facts, output }) {
  return [failure, facts.status, facts.why, facts.failure_reason, Boolean(output?.size)];
}

function runFields({ fields }) {
  return Object.keys(fields).length > 0 && runValues(fields, "Own fields");
}

function runPictures(run) {
  const id = run.id;
  return run.files.filter((file) => file.kind === "image").map(({ key, modified, size }) => ({ id, key, modified, size }));
}

function runValues(values, label) {
  const pairs = flatValues(values);
  return pairs.length ? valuesTable(pairs, label) : h("p", { class: "faint" }, "None recorded.");
}

function runSeries(series) {
  const names = Object.keys(series);
  if (!names.length) return null;
  const rows = names.flatMap((name) => {
    const { columns = {} } = series[name] ?? {};
    return Object.entries(columns).map(([column, summary]) => h("tr", {},
      h("th", { scope: "row" }, names.length > 1 ? `${name}: ${column}` : column),
      ["last", "min", "max"].map((part) => runNumberCell(summary?.[part] ?? summary?.nonfinite?.[part]))));
  });
  const titles = [
    h("th", { scope: "col" }, "Column"), ["Last", "Min", "Max"].map((title) => h("th", { scope: "col", class: "number" }, title)),
  ];
  return [
    names.map((name) => h("p", {}, h("span", { class: "mono" }, name), h("span", { class: "faint" }, runSeriesFacts(series[name] ?? {})))),
    rows.length > 0 && scrolledTable("Last, smallest and largest values of series", titles, h("tbody", {}, rows)),
  ];
}

function runNumberCell(value) {
  return value === null || value === undefined ? h("td", {}) : valueCell(value, { class: "number" });
}

function runSeriesFacts({ rows, step }) {
  const hasStep = step !== null && step !== undefined;
  const facts = [typeof rows === "number" && counted(rows, "row"), hasStep && `last step ${numberText(Number(step))}`];
  const text = facts.filter(Boolean).join(", ");
  return text ? ` ${text}` : "";
}

function runEnvironment(environment) {
  const { packages, ...rest } = environment;
  const pairs = flatValues(rest);
  const versions = flatValues(packages);
  if (!pairs.length && !versions.length) return null;
  const { git = {}, python = {} } = environment;
  const commit = git?.commit && `commit ${String(git.commit).slice(0, 10)}${git.dirty ? ", with changes" : ""}`;
  const summary = [python?.version && `Python ${python.version}`, commit, environment.platform].filter(Boolean).join(" · ");
  return [
    pairs.length > 0 && h("details", { "data-keep": "environment" },
      h("summary", {}, summary || "Machine and process"), valuesTable(pairs, "Environment")),
    versions.length > 0 && h("details", { "data-keep": "packages" },
      h("summary", {}, counted(versions.length, "package")), valuesTable(versions, "Packages")),
  ];
}

function runResumes(resumes) {
  return resumes.length > 0 && h("ol", { class: "plain-list" }, resumes.map(({ time, reason }) =>
    h("li", {}, time && h("time", { datetime: time, title: timeText(time, true) }, timeText(time)), reason && `: ${reason}`)));
}

function runPlaces({ workers, mirror }) {
  if (!workers.length && !mirror) return null;
  return h("dl", { class: "facts" },
    workers.length > 0 && h("div", {}, h("dt", {}, "Workers"), h("dd", {}, workers.join(", "))),
    mirror && h("div", {}, h("dt", {}, "Mirror"), h("dd", { class: "mono" }, mirror)));
}
