// The operators and functions of filters on plain values, with the meaning that they have in Python: `//` and `%` round
// down, 1 is not true, texts are compared by code points, and nothing is converted. A value that does not fit throws `Misfit`.

const OPS_BITS = 2 ** 15; // as `notata.search.expressions`: a longer power is not computed
const OPS_LONGEST_PATTERN = 1000; // characters
const OPS_STEPS = 50_000_000; // of patterns for all rows, which take up to half a second

let opsSteps = 0;

// The reason why an operation has no value. Not an Error: thousands of rows may throw it, and its stack would cost time.
export class Misfit {
  constructor(message) {
    this.message = message;
  }
}

// A number is too large to be computed: the run does not match, and a note says so.
export class TooLarge {
  constructor(message) {
    this.message = message;
  }
}

// -- kinds ------------------------------------------------------------------------------------------------

function opsKind(value) {
  if (value === null) return "a NoneType";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "number") return Number.isInteger(value) ? "an int" : "a float";
  return { boolean: "a bool", string: "a str" }[typeof value] ?? "a dict";
}

function opsIsDict(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function opsIsNumber(value) {
  return typeof value === "number" || typeof value === "boolean";
}

function opsNumber(value) {
  if (!opsIsNumber(value)) throw new Misfit(`${opsKind(value)} is not a number`);
  return Number(value);
}

export function isTrue(value) {
  if (typeof value === "object" && value !== null) return opsLength(value) > 0;
  return Boolean(value) || Number.isNaN(value);
}

// -- comparisons ------------------------------------------------------------------------------------------

// Check whether two values are equal. With `isStrict` 1 is not true; without it, it is, as for Python's `==`.
function opsEqual(one, other, isStrict = true) {
  if (opsIsNumber(one) && opsIsNumber(other)) {
    return (!isStrict || typeof one === typeof other) && Number(one) === Number(other);
  }
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, place) => opsEqual(item, other[place], isStrict));
  }
  if (opsIsDict(one) && opsIsDict(other)) {
    const names = Object.keys(one);
    return names.length === Object.keys(other).length &&
      names.every((name) => Object.hasOwn(other, name) && opsEqual(one[name], other[name], isStrict));
  }
  return one === other;
}

// Return a number below, equal to or above 0, or NaN if the values have no order.
function opsOrder(one, other) {
  if (opsIsNumber(one) && opsIsNumber(other)) return Number(one) === Number(other) ? 0 : opsSign(Number(one), Number(other));
  if (typeof one === "string" && typeof other === "string") return opsTextOrder(one, other);
  if (Array.isArray(one) && Array.isArray(other)) {
    const place = one.findIndex((item, at) => at >= other.length || !opsEqual(item, other[at], false));
    if (place >= 0 && place < other.length) return opsOrder(one[place], other[place]);
    return one.length - other.length;
  }
  throw new Misfit(`${opsKind(one)} and ${opsKind(other)} have no order`);
}

function opsSign(one, other) {
  return one < other ? -1 : one > other ? 1 : NaN;
}

function opsTextOrder(one, other) {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) {
    const units = [one.charCodeAt(at), other.charCodeAt(at)];
    if (units[0] !== units[1]) return opsCodeRank(units[0]) - opsCodeRank(units[1]);
  }
  return one.length - other.length;
}

// Halves of characters beyond U+FFFF come after all others.
function opsCodeRank(unit) {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

function opsIsIn(part, whole) {
  if (Array.isArray(whole)) return whole.some((item) => opsEqual(part, item));
  if (typeof whole === "string" && typeof part === "string") return whole.includes(part);
  if (!opsIsDict(whole) || (typeof part === "object" && part !== null)) {
    throw new Misfit(`${opsKind(part)} cannot be in ${opsKind(whole)}`);
  }
  return typeof part === "string" && Object.hasOwn(whole, part);
}

export const COMPARISONS = new Map([
  ["==", (one, other) => opsEqual(one, other)],
  ["!=", (one, other) => !opsEqual(one, other)],
  ["is", (one, other) => opsEqual(one, other)],
  ["is not", (one, other) => !opsEqual(one, other)],
  ["<", (one, other) => opsOrder(one, other) < 0],
  ["<=", (one, other) => opsOrder(one, other) <= 0],
  [">", (one, other) => opsOrder(one, other) > 0],
  [">=", (one, other) => opsOrder(one, other) >= 0],
  ["in", opsIsIn],
  ["not in", (part, whole) => !opsIsIn(part, whole)],
]);

// -- arithmetic -------------------------------------------------------------------------------------------

// Return the quotient, rounded down, and the remainder, which has the sign of the divisor, as CPython computes them.
function opsDivided(one, other) {
  if (other === 0) throw new Misfit("division by zero");
  let rest = one % other;
  let quotient = (one - rest) / other;
  if (rest && (other < 0) !== (rest < 0)) {
    rest += other;
    quotient -= 1;
  }
  const whole = Math.floor(quotient);
  return [quotient - whole > 0.5 ? whole + 1 : whole, rest];
}

function opsPower(base, exponent) {
  if (base === 0 && exponent < 0) throw new Misfit("0 cannot be raised to a negative power");
  if (base === 1 || (base === -1 && Math.abs(exponent) === Infinity)) return 1;
  if (Number.isInteger(base) && Number.isInteger(exponent)) {
    const bits = base && Math.floor(Math.log2(Math.abs(base))) + 1;
    if (bits * Math.abs(exponent) > OPS_BITS) throw new TooLarge(`a number has at most ${OPS_BITS} bits`);
    return exponent < 0 ? base ** exponent : Number(BigInt(base) ** BigInt(exponent));
  }
  if (base < 0 && Number.isFinite(base) && Number.isFinite(exponent) && !Number.isInteger(exponent)) {
    throw new Misfit("a complex is not a number");
  }
  const power = base ** exponent;
  if (Math.abs(power) === Infinity && Number.isFinite(base) && Number.isFinite(exponent)) throw new Misfit("too large");
  return power;
}

const OPS_COMPUTED = new Map([
  ["+", (one, other) => one + other],
  ["-", (one, other) => one - other],
  ["*", (one, other) => one * other],
  ["/", (one, other) => {
    if (other === 0) throw new Misfit("division by zero");
    return one / other;
  }],
  ["//", (one, other) => opsDivided(one, other)[0]],
  ["%", (one, other) => opsDivided(one, other)[1]],
  ["**", opsPower],
]);

function opsArithmetic(compute) {
  return (...values) => {
    const numbers = values.map(opsNumber);
    const result = compute(...numbers);
    if (!Number.isFinite(result) && numbers.every(Number.isInteger)) {
      throw new TooLarge("a number is at most 1.8e308");
    }
    return result;
  };
}

export const ARITHMETIC = new Map([...OPS_COMPUTED].map(([name, compute]) => [name, opsArithmetic(compute)]));

export const UNARY = new Map([
  ["not", (value) => !isTrue(value)],
  ["-", (value) => -opsNumber(value)],
  ["+", (value) => (opsNumber(value), value)],
]);

// -- functions --------------------------------------------------------------------------------------------

function opsLength(value) {
  if (typeof value === "string") return [...value].length;
  if (Array.isArray(value)) return value.length;
  if (!opsIsDict(value)) throw new Misfit(`len() takes a string, a list or a dictionary, not ${opsKind(value)}`);
  return Object.keys(value).length;
}

function opsOfTexts(name, call) {
  return (...values) => {
    const wrong = values.find((value) => typeof value !== "string");
    if (wrong !== undefined) throw new Misfit(`${name}() takes strings, not ${opsKind(wrong)}`);
    return call(...values);
  };
}

function opsExtreme(name, sign) {
  return (...values) => {
    let all = values;
    if (values.length === 1) {
      all = opsIsDict(values[0]) ? Object.keys(values[0]) : values[0];
      if (typeof all !== "string" && !Array.isArray(all)) throw new Misfit(`${opsKind(all)} has no elements`);
    }
    const [first, ...others] = all;
    if (first === undefined) throw new Misfit(`${name}() of nothing`);
    return others.reduce((best, value) => (sign * opsOrder(value, best) > 0 ? value : best), first);
  };
}

function opsSeconds(unit) {
  return [opsArithmetic((count) => count * unit), 1, 1];
}

// The functions of filters, each with the minimum and maximum number of arguments.
export const FUNCTIONS = new Map([
  ["abs", [opsArithmetic(Math.abs), 1, 1]],
  ["contains", [(whole, part) => opsIsIn(part, whole), 2, 2]],
  ["days", opsSeconds(86_400)],
  ["endswith", [opsOfTexts("endswith", (text, end) => text.endsWith(end)), 2, 2]],
  ["has", [null, 1, 1]], // never called: only whether its argument has a value is checked
  ["hours", opsSeconds(3600)],
  ["len", [opsLength, 1, 1]],
  ["lower", [opsOfTexts("lower", (text) => text.toLowerCase()), 1, 1]],
  ["matches", [opsOfTexts("matches", opsMatches), 2, 2]],
  ["max", [opsExtreme("max", 1), 1, 99]],
  ["min", [opsExtreme("min", -1), 1, 99]],
  ["minutes", opsSeconds(60)],
  ["startswith", [opsOfTexts("startswith", (text, begin) => text.startsWith(begin)), 2, 2]],
]);

// -- patterns of file names -------------------------------------------------------------------------------

// Check whether a whole text matches a pattern of `*`, `?`, `[abc]`, `[a-z]` and `[!abc]`, as Python's fnmatchcase. It
// takes at most the product of both lengths: only the last `*` is ever tried again. That is bounded for all rows together.
function opsMatches(text, pattern) {
  opsCount(text.length + pattern.length);
  const marks = opsMarks([...pattern]);
  const chars = [...text];
  let [at, mark, star, from] = [0, 0, -1, 0];
  while (at < chars.length) {
    opsCount(1);
    if (marks[mark] === "*") [star, from, mark] = [mark, at, mark + 1];
    else if (mark < marks.length && marks[mark](chars[at])) [at, mark] = [at + 1, mark + 1];
    else if (star >= 0) [at, from, mark] = [from + 1, from + 1, star + 1];
    else return false;
  }
  return marks.slice(mark).every((left) => left === "*");
}

// Begin to count the steps of patterns anew, for an evaluation of all rows.
export function beginPatterns() {
  opsSteps = 0;
}

function opsCount(steps) {
  opsSteps += steps;
  if (opsSteps > OPS_STEPS) throw new TooLarge(`patterns take at most ${OPS_STEPS / 1e6} million steps`);
}

// Return a pattern as a list of "*" and functions that check one character.
function opsMarks(pattern) {
  if (pattern.length > OPS_LONGEST_PATTERN) {
    throw new TooLarge(`a pattern has at most ${OPS_LONGEST_PATTERN} characters`);
  }
  const marks = [];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at];
    const end = char === "[" ? pattern.indexOf("]", at + (pattern[at + 1] === "!" ? 3 : 2)) : -1;
    if (end > 0) {
      marks.push(opsClass(pattern.slice(at + 1, end)));
      at = end;
    } else marks.push(char === "*" ? char : char === "?" ? () => true : (other) => other === char);
  }
  return marks;
}

function opsClass(chars) {
  const isNot = chars[0] === "!";
  const ranges = [];
  for (let at = isNot ? 1 : 0; at < chars.length; at++) {
    const isRange = chars[at + 1] === "-" && at + 2 < chars.length;
    ranges.push([chars[at], chars[isRange ? at + 2 : at]]);
    if (isRange) at += 2;
  }
  return (char) => {
    opsCount(ranges.length);
    return ranges.some(([low, high]) => opsTextOrder(low, char) <= 0 && opsTextOrder(char, high) <= 0) !== isNot;
  };
}
