// Numbers, times, sizes and other values as texts for people.

const FORMAT_MINUS = "\u2212";

// Return a number with some significant digits: 0.01235, 1 234 567, 3.2e-9.
export function numberText(value, digits = 4) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : `${FORMAT_MINUS}∞`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (Number.isInteger(value) && size < 1e9) text = formatGrouped(String(size));
  else if (size >= 1e6 || size < 1e-3) text = formatScientific(size, digits);
  else text = formatPlain(size, digits);
  return (value < 0 ? FORMAT_MINUS : "") + text;
}

function formatPlain(size, digits) {
  const text = size.toPrecision(digits);
  return text.includes("e") ? formatScientific(size, digits) : formatTrimmed(text);
}

function formatScientific(size, digits) {
  const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
  return `${formatTrimmed(mantissa)}e${Number(exponent)}`.replace("-", FORMAT_MINUS);
}

function formatTrimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

// Groups of three digits from five digits on, with a narrow space.
function formatGrouped(digits) {
  return digits.length < 5 ? digits : digits.replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

// Return a count with its noun: "1 run", "3 runs".
export function counted(number, noun) {
  return `${numberText(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes / 1000;
  for (const unit of ["kB", "MB", "GB"]) {
    if (value < 999.95) return `${value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

// Return a time span with at most two units: 12 ms, 4.3 s, 4 min 12 s, 3 h 5 min, 2 d 4 h.
export function spanText(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < 0.9995) return `${Math.max(0, seconds * 1000).toFixed(0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// Return how long ago a time was, in one unit: "3 h ago".
export function agoText(iso, now = Date.now()) {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return "";
  const span = spanText(Math.max(0, (now - at) / 1000)).split(" ").slice(0, 2).join(" ");
  return now - at < 1000 ? "now" : `${span.replace(/\.\d+/, "")} ago`;
}

// Return a time of day in the zone of the reader: "2026-11-29 14:05".
export function timeText(iso, seconds = false) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso ?? "");
  const two = (number) => String(number).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
}

// Return any value of a run as a text of one line.
export function valueText(value, digits = 4) {
  if (value === undefined) return "";
  if (typeof value === "number") return numberText(value, digits);
  if (typeof value === "string") return value;
  return JSON.stringify(value, (name, item) => (typeof item === "number" && !Number.isFinite(item) ? numberText(item) : item));
}

// Return a text of at most some characters, with its beginning and its end.
export function shortened(text, most = 40) {
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) * 0.4);
  return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`;
}

// Put numbers that JSON lacks back into an array: null where `nonfinite` has the index.
export function restored(values, nonfinite) {
  for (const [index, name] of Object.entries(nonfinite ?? {})) values[index] = Number(name);
  return values;
}
