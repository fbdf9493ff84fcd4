// Scales of charts: where a value lies between two pixels, and the ticks with their texts.

import { numberText, timeText } from "./format.js";

// An axis has a kind: "number", "span" (seconds as a length of time) or "time" (seconds since 1970).
// Return functions between values and pixels, for a range of values and a range of pixels.
export function scaleOf({ min, max, isLog }, from, to) {
  const start = scaleFold(min, isLog);
  const factor = (to - from) / (scaleFold(max, isLog) - start || 1);
  return {
    at: isLog
      ? (value) => (value > 0 ? from + (Math.log10(value) - start) * factor : NaN)
      : (value) => from + (value - start) * factor,
    value: (pixel) => scaleUnfold(start + (pixel - from) / factor, isLog),
  };
}

export function scaleFold(value, isLog) {
  return isLog ? Math.log10(value) : value;
}

export function scaleUnfold(place, isLog) {
  return isLog ? 10 ** place : place;
}

// Return a range with some room on both sides, and with a length if all values are the same.
export function roomyRange(low, high, isLog, room = 0.05) {
  if (isLog) {
    const [from, to] = low === high ? [low / 2, high * 2] : [low, high];
    const more = (Math.log10(to) - Math.log10(from)) * room;
    return { min: 10 ** (Math.log10(from) - more), max: 10 ** (Math.log10(to) + more), isLog };
  }
  if (low === high) {
    const half = Math.abs(low) * 0.1 || 1;
    return { min: low - half, max: high + half, isLog };
  }
  const more = high * room - low * room;
  return { min: low - more, max: high + more, isLog };
}

// Return about `most` ticks of an axis: [{value, text}].
export function ticksOf({ min, max, isLog, kind = "number" }, most) {
  if (!(max > min) || !Number.isFinite(max - min)) return [];
  if (kind === "time") return scaleTimes(min, max, most);
  if (kind === "span" && !isLog) return scaleSpans(min, max, most);
  if (isLog && Math.log10(max / min) >= 0.8) return scaleDecades(min, max, most, kind === "span" ? " s" : "");
  return scaleNumbers(min, max, most);
}

function scaleNumbers(min, max, most) {
  const step = roundStep((max - min) / most);
  const size = Math.max(Math.abs(min), Math.abs(max));
  return scaleMultiples(min, max, step).map((value) => ({ value, text: stepText(value, step, size) }));
}

// Return one of 1, 2, 5, 10, 20, 50 … that is near.
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  const share = least / power;
  return (share <= 1.4 ? 1 : share <= 3 ? 2 : share <= 7 ? 5 : 10) * power;
}

function scaleMultiples(min, max, step) {
  const first = Math.ceil(min / step - 1e-9);
  const count = Math.min(Math.floor(max / step + 1e-9) - first + 1, 100);
  const values = [];
  // The second division takes away what the multiplication adds: 3 * 0.1 is 0.30000000000000004.
  for (let index = 0; index < count; index++) values.push(Number(((first + index) * step).toPrecision(14)));
  return values;
}

const SCALE_SUFFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

// Return a number with as many digits as a step of the axis needs, and short if it is very large or small.
function stepText(value, step, size = Math.abs(value)) {
  if (value === 0) return "0";
  const sign = value < 0 ? "\u2212" : "";
  if (size >= 1e15 || size < 1e-3) return numberText(value, scaleDigits(value, step));
  const [unit, suffix] = size >= 1e4 ? SCALE_SUFFIXES.find(([least]) => size >= least) : [1, ""];
  const places = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-6));
  return sign + (Math.abs(value) / unit).toFixed(Math.min(places, 12)) + suffix;
}

function scaleDigits(value, step) {
  const digits = Math.floor(Math.log10(Math.abs(value))) - Math.floor(Math.log10(step) + 1e-9) + 1;
  return Math.min(Math.max(digits, 1), 12);
}

function scaleDecades(min, max, most, unit) {
  const [low, high] = [Math.log10(min), Math.log10(max)];
  const every = Math.max(1, Math.ceil((high - low) / most));
  const factors = (high - low) * 3 <= most + 1 ? [1, 2, 5] : (high - low) * 2 <= most + 1 ? [1, 3] : [1];
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power++) {
    if (power % every) continue;
    for (const factor of factors) {
      const value = Number(`${factor}e${power}`);
      if (value >= min * 0.9999 && value <= max * 1.0001) ticks.push({ value, text: scaleDecadeText(value, factor, power) + unit });
    }
  }
  return ticks;
}

function scaleDecadeText(value, factor, power) {
  if (power >= -3 && power < 5) return numberText(value, 1).replace("\u202f", "");
  return `${factor}e${power}`.replace("-", "\u2212");
}

const SCALE_SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800,
  604800, 1209600, 2592000, 7776000, 31536000];

function scaleSeconds(least) {
  return SCALE_SECONDS.find((step) => step >= least * 0.75) ?? roundStep(least / 31536000) * 31536000;
}

const SCALE_UNITS = [[86400, "d", 172800], [3600, "h", 7200], [60, "min", 120], [1, "s", 1], [1e-3, "ms", 0]];

// Lengths of time, in one unit.
function scaleSpans(min, max, most) {
  const size = Math.max(Math.abs(min), Math.abs(max));
  const [unit, name] = SCALE_UNITS.find(([, , least]) => size >= least);
  const least = (max - min) / most;
  const step = least >= 1 && unit > 1 && least < 86400 ? scaleSeconds(least) : roundStep(least / unit) * unit;
  const places = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-6)));
  const isWhole = Math.abs((step / unit) % 1) < 1e-9;
  const digits = isWhole ? 0 : Math.min(places + 1, 2);
  return scaleMultiples(min, max, step).map((value) => ({ value, text: spanTick(value, unit, name, digits) }));
}

function spanTick(value, unit, name, places) {
  if (value === 0) return "0";
  const text = (Math.abs(value) / unit).toFixed(places);
  return `${value < 0 ? "\u2212" : ""}${text.includes(".") ? text.replace(/\.?0+$/, "") : text} ${name}`;
}

// Times of the day and days, in the zone of the reader.
function scaleTimes(min, max, most) {
  const least = (max - min) / most;
  if (least < 1) return scaleNumbers(min, max, most).map(({ value }) => ({ value, text: scaleSubsecond(value, least) }));
  const step = scaleSeconds(least);
  const zone = -new Date(min * 1000).getTimezoneOffset() * 60;
  return scaleMultiples(min + zone, max + zone, step).map((local) => ({ value: local - zone, text: scaleClock(local - zone, step) }));
}

function scaleSubsecond(value, least) {
  const places = Math.min(3, Math.max(1, Math.ceil(-Math.log10(least))));
  const [, clock] = timeText(value * 1000, true).split(" ");
  return clock.slice(3) + (value % 1).toFixed(places).slice(1);
}

function scaleClock(value, step) {
  const [day, clock] = timeText(value * 1000, true).split(" ");
  if (step >= 86400 * 200) return day.slice(0, 4);
  if (step >= 86400 || clock === "00:00:00") return day.slice(5);
  return step < 60 ? clock : clock.slice(0, 5);
}

// Return a place on an axis as a text for a person who points at it.
export function axisText(value, { min, max, kind = "number" }) {
  if (kind === "time") return timeText(value * 1000, true);
  const size = Math.max(Math.abs(min), Math.abs(max), Math.abs(value));
  const digits = Math.min(12, Math.max(4, Math.ceil(Math.log10(size / ((max - min) || size))) + 4));
  if (kind !== "span") return numberText(value, Number.isFinite(digits) ? digits : 6);
  const [unit, name] = SCALE_UNITS.find(([, , least]) => Math.abs(value) >= least);
  return `${numberText(value / unit, 4)} ${name}`;
}
