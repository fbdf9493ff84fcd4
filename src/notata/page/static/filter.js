// Expressions of filters over named values: checked, and evaluated without JavaScript's eval. They are those of
// `notata.search.expressions`, which has the same parts and messages.

import { ARITHMETIC, COMPARISONS, FUNCTIONS, Misfit, TooLarge, UNARY, isTrue } from "./operators.js";
import { FilterError, syntaxTree } from "./syntax.js";

const FILTER_LONGEST = 4096; // characters
const FILTER_OF_TEXTS = new Set(["contains", "endswith", "matches", "startswith"]);
const FILTER_OPERAND = /((?:==|!=|<=|>=|<|>)\s*)([^'"=<>]+)/g; // and what follows it, up to a comparison or a quote
const FILTER_AFTER = /\band\b|\bor\b|[)\]]/g; // ends an operand

// A checked filter. `paths` are its names with the parts that follow them, each a list of texts and numbers.
export class Filter {
  constructor(text) {
    const length = [...text].length;
    if (length > FILTER_LONGEST) throw new FilterError(`a filter has at most ${FILTER_LONGEST} characters, not ${length}`);
    this.source = text.trim();
    this.tooLarge = "";
    this.pathOf = new Map(); // of nodes
    this.known = new Map(); // equal paths are one object
    try {
      this.tree = syntaxTree(this.source);
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      const why = this.source ? error.message : "it is empty";
      const withQuotes = filterWithQuotes(this.source);
      throw this.refused(withQuotes ? `${why}; put text in quotes: ${withQuotes}` : why, error.begin, this.source.length);
    }
    this.evaluate = this.compiled(this.tree);
    this.paths = [...this.known.values()];
  }

  // Check whether it is true. Without a value, or with a value that does not fit, it is not. `valueOf` returns the value
  // of one of `paths`, undefined without one.
  holds(valueOf) {
    try {
      return filterKnown(() => isTrue(this.evaluate(valueOf)), false);
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
      this.tooLarge = error.message;
      return false;
    }
  }

  // -- compile --------------------------------------------------------------------------------------------

  // Return a function that evaluates a part. A part without names is computed here: if that fails, it fails for all runs.
  compiled(node) {
    if (node.kind === "constant" && !node.isOdd) return () => node.value;
    if (["name", "attribute", "item"].includes(node.kind)) return this.lookedUp(node);
    const known = this.pathOf.size;
    const evaluate = this.compound(node);
    if (this.pathOf.size > known) return evaluate;
    try {
      const value = evaluate(() => undefined);
      return () => value;
    } catch (error) {
      if (!(error instanceof Misfit || error instanceof TooLarge)) throw error;
      throw this.wrong(node, `it has no value: ${error.message}`);
    }
  }

  lookedUp(node) {
    const found = this.path(node);
    const key = JSON.stringify(found);
    const path = this.known.get(key) ?? found;
    this.known.set(key, path);
    this.pathOf.set(node, path);
    return (valueOf) => {
      const value = valueOf(path);
      if (value === undefined) throw new Misfit("the run has no path");
      return value;
    };
  }

  compound(node) {
    if (node.isOdd) throw this.wrong(node, "a filter cannot contain this");
    const each = () => node.parts.map((part) => this.compiled(part));
    const { kind, mark } = node;
    if (kind === "list") return filterApplied((...values) => values, each());
    if (kind === "either") return filterEither(each(), node.isOr);
    if (kind === "comparison") return filterChained(node.marks.map((one) => COMPARISONS.get(one)), each());
    if (kind === "unary" && UNARY.has(mark)) return filterApplied(UNARY.get(mark), each());
    if (kind === "binary" && ARITHMETIC.has(mark)) return filterApplied(ARITHMETIC.get(mark), each());
    if (kind === "call") return this.called(node);
    if (mark === "&" || mark === "|") throw this.wrong(node, "write 'and' and 'or', not '&' and '|'");
    throw this.wrong(node, "a filter cannot contain this");
  }

  called(node) {
    const [{ kind, name }, ...parts] = node.parts;
    if (kind === "attribute") throw this.wrong(node, "methods are not supported; write lower(name), startswith(name, 'a')");
    if (kind !== "name") throw this.wrong(node, "a filter cannot contain this");
    if (!FUNCTIONS.has(name)) {
      throw this.wrong(node, `there is no function ${name}(); the functions are ${[...FUNCTIONS.keys()].join(", ")}`);
    }
    const [call, least, most] = FUNCTIONS.get(name);
    if (parts.length < least || parts.length > most) {
      const takes = least < most ? `${least} or more arguments` : `${least} argument${least === 1 ? "" : "s"}`;
      throw this.wrong(node, `${name}() takes ${takes}, not ${parts.length}`);
    }
    const evaluates = parts.map((part) => this.compiled(part));
    if (name !== "has") return filterApplied(call, evaluates);
    return (valueOf) => filterKnown(() => (evaluates[0](valueOf), true), false);
  }

  path(node) {
    const { kind, name, parts } = node;
    if (kind === "item") {
      const place = filterPlace(parts[1]);
      if (place !== undefined) return [...this.path(parts[0]), place];
    } else if (kind === "name" || kind === "attribute") {
      const whole = kind === "name" ? [] : this.path(parts[0]);
      if (name.startsWith("__")) throw this.wrong(node, `there is no ${name}`);
      return [...whole, name];
    }
    throw this.wrong(node, "only names can have parts: params.x, params['x y'], params.x[0]");
  }

  wrong(node, why) {
    return this.refused(why, node.begin, node.end);
  }

  refused(why, begin, end) {
    if (begin === null) return new FilterError(`the filter cannot be used: ${why}`);
    const before = this.source.slice(0, begin);
    const chars = [...this.source.slice(begin, end)];
    const column = before.includes("\n") ? "" : ` at column ${[...before].length + 1}`;
    const part = chars.length > 40 ? `${chars.slice(0, 40).join("")}…` : chars.join("");
    return new FilterError(`the filter cannot be used${column}${part && ` (${part})`}: ${why}`, begin, end);
  }

  // -- texts without quotes -------------------------------------------------------------------------------

  // Return the filter with quotes around its texts that lack them, and the names among them; null if none lacks them.
  // `isUnseen` checks whether no run has a name, `isText` whether all values of a name are texts.
  quoted(isUnseen, isText) {
    const found = [...this.bare(isUnseen, isText)].filter((node) => !this.source.slice(0, node.end).includes("\n"));
    if (found.length === 0) return null;
    let text = this.source;
    for (const { begin, end } of found.toSorted((one, other) => other.begin - one.begin)) {
      text = text.slice(0, begin) + quotedText(text.slice(begin, end)) + text.slice(end);
    }
    return { text, names: found.flatMap((node) => this.pathsIn(node)) };
  }

  *bare(isUnseen, isText) {
    for (const operands of this.compared()) {
      const paths = operands.map((operand) => this.pathsIn(operand));
      const seen = paths.flat().filter((path) => !isUnseen(path));
      for (const [place, operand] of operands.entries()) {
        const names = paths[place];
        const isName = names.length > 0 && names.every(isUnseen) && (place > 0 || seen.length > 0);
        const isNumber = names.length === 0 && seen.some(isText) && filterIsNumber(operand);
        if ((isName || isNumber) && !filterNodes(operand).some(({ kind }) => kind === "call")) yield operand;
      }
    }
  }

  // Return the operands of each comparison, with the elements of lists.
  compared() {
    return filterNodes(this.tree).flatMap(({ kind, parts }) => {
      if (kind === "comparison") return [parts.flatMap((part) => (part.kind === "list" ? part.parts : [part]))];
      return kind === "call" && FILTER_OF_TEXTS.has(parts[0].name) ? [parts.slice(1)] : [];
    });
  }

  pathsIn(node) {
    return filterNodes(node).filter((part) => this.pathOf.has(part)).map((part) => this.pathOf.get(part));
  }
}

// Return a node and all below it, level by level.
function filterNodes(node) {
  const nodes = [node];
  for (const one of nodes) nodes.push(...one.parts);
  return nodes;
}

function filterIsNumber(node) {
  const leaves = filterNodes(node).filter(({ kind }) => kind === "constant" || kind === "name");
  return leaves.length > 0 && leaves.every(({ value }) => typeof value === "number");
}

// Return the key or the index in brackets, undefined if it is neither.
function filterPlace({ kind, mark, value, isOdd, isInteger, parts }) {
  if (kind === "unary" && mark === "-") return parts[0].isInteger ? -Number(parts[0].value) : undefined;
  if (kind !== "constant" || isOdd) return undefined;
  return isInteger ? Number(value) : typeof value === "string" ? value : undefined;
}

// Return a text with quotes around it, as Python writes it.
export function quotedText(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t");
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

// Return an invalid filter with quotes around its invalid parts; empty if quotes do not help.
function filterWithQuotes(text) {
  const whole = text.replace(FILTER_OPERAND, (found, mark, rest, at) =>
    mark + filterOperandWithQuotes(rest, at + found.length === text.length));
  return whole !== text && filterReads(whole) ? whole : "";
}

// Return a text that begins with an operand, with quotes around it if it cannot be read. Linear in its length.
function filterOperandWithQuotes(text, isLast) {
  FILTER_AFTER.lastIndex = 1;
  const after = FILTER_AFTER.exec(text);
  if (!after && !isLast) return text;
  const operand = text.slice(0, after?.index).trimEnd();
  return filterReads(operand) ? text : quotedText(operand) + text.slice(operand.length);
}

function filterReads(text) {
  try {
    syntaxTree(text.trim());
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    return false;
  }
  return true;
}

// -- evaluate ---------------------------------------------------------------------------------------------

function filterKnown(call, otherwise) {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof Misfit)) throw error;
    return otherwise;
  }
}

function filterApplied(call, parts) {
  return (valueOf) => call(...parts.map((part) => part(valueOf)));
}

// Compare neighbours, and stop at the first comparison that is not true.
function filterChained(compares, parts) {
  return (valueOf) => {
    let left = parts[0](valueOf);
    for (const [place, compare] of compares.entries()) {
      const right = parts[place + 1](valueOf);
      if (!compare(left, right)) return false;
      left = right;
    }
    return true;
  };
}

// Evaluate `or` or `and` by the three-valued logic of SQL: `a or b` is true if `b` is, even without a value of `a`.
function filterEither(parts, isOr) {
  return (valueOf) => {
    let isUnknown = false;
    for (const part of parts) {
      const truth = filterKnown(() => isTrue(part(valueOf)), null);
      if (truth === isOr) return isOr;
      isUnknown ||= truth === null;
    }
    if (isUnknown) throw new Misfit("the run has no path");
    return !isOr;
  };
}
