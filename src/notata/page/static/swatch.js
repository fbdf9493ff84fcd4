// The colour and the dash of a curve, by its position among those that are shown.

import { s } from "./dom.js";

const SWATCH_COLOURS = 8;
const SWATCH_DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3]];

// Return the CSS variable of the colour, the class of elements in it, and the lengths of the dashes. After eight colours the dashes change.
export function swatchOf(index) {
  const dash = SWATCH_DASHES[Math.floor(index / SWATCH_COLOURS) % SWATCH_DASHES.length];
  const colour = (index % SWATCH_COLOURS) + 1;
  return { colour: `--series-${colour}`, tint: `tint-${colour}`, dash };
}

// Return a short piece of the curve, to stand before a name.
export function swatch(index) {
  const { dash, tint } = swatchOf(index);
  const line = s("line", { x1: 0, y1: 5, x2: 22, y2: 5, class: tint });
  if (dash.length) line.setAttribute("stroke-dasharray", dash.join(" "));
  return s("svg", { class: "swatch", width: 22, height: 10, viewBox: "0 0 22 10", "aria-hidden": "true" }, line);
}
