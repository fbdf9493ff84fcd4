// The controls of curves: the series, the x axis, smoothing, logarithmic axes, and means of groups.

import { afterPause, h, replace } from "./dom.js";
import { menuBox } from "./menu.js";
import { currentState, listText, setOptions } from "./state.js";

const CONTROL_AXES = [["step", "Step"], ["time", "Time"], ["relative", "Elapsed time"]];

export class CurveControls {
  constructor(page, { isLarge = false } = {}) {
    this.page = page;
    this.isLarge = isLarge;
    const set = (name) => (event) => setOptions({ [name]: event.target.value, from: null, to: null });
    this.series = h("select", { onchange: set("series") });
    this.x = h("select", { onchange: set("x") }, CONTROL_AXES.map(([value, text]) => h("option", { value }, text)));
    const smoothed = afterPause(40, (value) => setOptions({ smooth: Number(value) ? value : null }, { replaces: true }));
    const slid = () => {
      this.showSmooth();
      smoothed(this.smooth.value);
    };
    this.smooth = h("input", { type: "range", min: 0, max: 0.99, step: 0.01, oninput: slid });
    this.smoothText = h("output", {});
    this.logY = h("button", { onclick: () => this.toggleLog("y") }, "Log y");
    this.logX = h("button", { onclick: () => this.toggleLog("x") }, "Log x");
    this.group = menuBox("curve-group");
    const found = afterPause(150, () => setOptions({ find: this.find.value || null }, { replaces: true }));
    this.find = h("input", { type: "search", placeholder: "Find a curve", "aria-label": "Find a curve", size: 12, oninput: found });
    this.zoom = h("button", { onclick: () => setOptions({ from: null, to: null }) }, "Show everything");
    this.element = h("div", { class: "toolbar curve-controls" },
      this.seriesLabel = h("label", {}, h("span", {}, "Series "), this.series),
      h("label", {}, h("span", {}, "Over "), this.x),
      h("label", { class: "curve-smooth" }, h("span", {}, "Smooth "), this.smooth, this.smoothText),
      this.logY, this.logX, this.group, this.find, this.zoom);
  }

  toggleLog(axis) {
    const { log = "" } = currentState().options;
    const next = log.includes(axis) ? log.replace(axis, "") : `${log}${axis}`;
    setOptions({ log: next || null });
  }

  showSmooth() {
    this.smoothText.textContent = Number(this.smooth.value) ? Number(this.smooth.value).toFixed(2) : "";
  }

  update(options, rows, columns = 0) {
    const names = options.names.join("\n");
    if (names !== this.names) {
      this.names = names;
      replace(this.series, options.names.map((name) => h("option", { value: name }, name)));
    }
    this.seriesLabel.hidden = options.names.length < 2;
    this.series.value = options.series;
    this.x.value = options.x;
    if (document.activeElement !== this.smooth) this.smooth.value = options.smooth;
    this.showSmooth();
    this.logY.setAttribute("aria-pressed", String(options.isLogY));
    this.logX.setAttribute("aria-pressed", String(options.isLogX));
    this.logX.disabled = options.x === "time";
    if (document.activeElement !== this.find) this.find.value = options.find;
    this.find.hidden = this.isLarge || (columns < 7 && !options.find);
    this.zoom.hidden = this.isLarge || options.from === undefined;
    this.updateGroup(options, rows);
  }

  updateGroup({ group, band }, rows) {
    const names = this.page.data.differing(rows).map((column) => column.name);
    const shown = [...new Set([...names, ...group])];
    this.group.hidden = shown.length === 0 || rows.length < 2;
    const key = JSON.stringify([shown, group, band]);
    if (key === this.groupKey) return;
    this.groupKey = key;
    const focused = document.activeElement?.dataset?.group;
    const toggle = (name, isOn) => setOptions({ group: listText(isOn ? [...group, name] : group.filter((one) => one !== name)) });
    replace(this.group,
      h("summary", {}, group.length ? `Mean over ${group.join(", ")}` : "Mean over"),
      h("div", { class: "menu-body" },
        h("p", { class: "faint" }, "Runs that differ only in these become one curve with a band around it."),
        h("div", { class: "menu-list" }, shown.map((name) => h("label", {},
          h("input", {
            type: "checkbox", checked: group.includes(name), "data-group": name,
            onchange: (event) => toggle(name, event.target.checked),
          }),
          h("span", {}, name)))),
        h("label", {}, "Band ", h("select", { "data-group": " band", onchange: (event) => setOptions({ band: event.target.value }) },
          h("option", { value: "minmax", selected: band !== "std" }, "Smallest to largest"),
          h("option", { value: "std", selected: band === "std" }, "±1 standard deviation")))));
    if (focused) [...this.group.querySelectorAll("[data-group]")].find((one) => one.dataset.group === focused)?.focus();
  }
}
