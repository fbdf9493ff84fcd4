// The syntax of filters: from a text to a tree, by the grammar of Python's expressions. A node has a `kind`, its `parts`,
// and where it begins and ends in the text.

const SYNTAX_DEEPEST = 200;
const SYNTAX_NUMBER =
  /0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|(?:\d(?:_?\d)*\.?(?:\d(?:_?\d)*)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?[jJ]?/y;
const SYNTAX_NAME = /[\p{XID_Start}_]\p{XID_Continue}*/uy;
const SYNTAX_QUOTES = /([rRuUbBfF]|[bBfF][rR]|[rR][bBfF])?('''|"""|'|")/y;
const SYNTAX_MARK = /\*\*|\/\/|<<|>>|[<>=!:]=|[-+*/%@&|^~<>()[\]{},:.=;]/y;
const SYNTAX_BLANK = /(?:[ \t\f]|\\\n|#[^\n]*)*/y;
const SYNTAX_BLANK_IN_BRACKETS = /(?:[ \t\f\n]|\\\n|#[^\n]*)*/y;
const SYNTAX_KEYWORDS = new Set(
  ("and as assert async await break class continue def del elif else except finally for from global if import in is " +
    "lambda nonlocal not or pass raise return try while with yield").split(" "));
const SYNTAX_CONSTANTS = new Map(
  [["True", true], ["False", false], ["None", null], ["true", true], ["false", false], ["null", null]]);
const SYNTAX_RESERVED = new Set(["True", "False", "None"]); // also after a dot
const SYNTAX_STRENGTHS = new Map(Object.entries(
  { "|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "@": 6 }));
const SYNTAX_COMPARED = new Set(["==", "!=", "<", "<=", ">", ">=", "in", "is", "not"]);
const SYNTAX_ESCAPES =
  /\\(\n|[\\'"abfnrtv]|[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[xuUN])/g;
const SYNTAX_ESCAPED = { "\n": "", a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

// A text that is no filter, with the part that is wrong.
export class FilterError extends Error {
  constructor(why, begin = null, end = null) {
    super(why);
    [this.begin, this.end] = [begin, end];
  }
}

// -- tokens -----------------------------------------------------------------------------------------------

// Return the tokens of a text: names, keywords, marks, and constants with their values.
function syntaxTokens(source) {
  const tokens = [];
  let at = 0;
  let open = 0; // brackets, within which a line may end
  const take = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(source);
  };
  for (;;) {
    at += take(open > 0 ? SYNTAX_BLANK_IN_BRACKETS : SYNTAX_BLANK)[0].length;
    if (at >= source.length) break;
    let found;
    if ((found = take(SYNTAX_QUOTES))) tokens.push(syntaxText(source, at, found));
    else if ((found = take(SYNTAX_NUMBER))) tokens.push(syntaxNumber(source, at, found[0]));
    else if ((found = take(SYNTAX_NAME))) tokens.push(syntaxWord(at, found[0]));
    else if ((found = take(SYNTAX_MARK))) tokens.push({ kind: "mark", value: found[0], begin: at, end: at + found[0].length });
    else throw new FilterError("invalid syntax", at);
    const { value, end } = tokens.at(-1);
    if (end - at === 1) open += "([{".includes(value) ? 1 : ")]}".includes(value) ? -1 : 0;
    at = end;
  }
  tokens.push({ kind: "end", value: "", begin: source.length, end: source.length });
  return tokens;
}

function syntaxWord(begin, text) {
  const name = text.normalize("NFKC");
  const token = { begin, end: begin + text.length, name };
  if (SYNTAX_CONSTANTS.has(name)) return { ...token, kind: "constant", value: SYNTAX_CONSTANTS.get(name) };
  return { ...token, kind: SYNTAX_KEYWORDS.has(name) ? "mark" : "name", value: name };
}

function syntaxNumber(source, begin, text) {
  const end = begin + text.length;
  const rest = source.slice(end, end + 4);
  if (/^[\p{XID_Start}_]/u.test(rest) && !/^(and|else|for|if|in|is|or|not)/.test(rest)) {
    throw new FilterError("invalid decimal literal", begin);
  }
  if (/^0[0_]*[1-9][\d_]*$/.test(text)) throw new FilterError("a number does not begin with 0", begin);
  const isOdd = /[jJ]$/.test(text); // a complex number
  const isInteger = /^0[xXbBoO]|^[\d_]+$/.test(text);
  return { kind: "constant", value: Number(text.replaceAll("_", "")), begin, end, isOdd, isInteger };
}

function syntaxText(source, begin, [opening, prefix = "", quotes]) {
  let at = begin + opening.length;
  const from = at;
  while (!source.startsWith(quotes, at)) {
    if (at >= source.length || (quotes.length === 1 && source[at] === "\n")) {
      throw new FilterError("a text has no closing quote", begin);
    }
    at += source[at] === "\\" ? 2 : 1;
  }
  const raw = source.slice(from, at);
  const isOdd = /[bf]/i.test(prefix);
  const value = /r/i.test(prefix) ? raw : raw.replace(SYNTAX_ESCAPES, (whole, escape) => syntaxEscaped(escape, begin));
  return { kind: "constant", value, begin, end: at + quotes.length, isOdd, isText: true };
}

function syntaxEscaped(escape, begin) {
  if (escape in SYNTAX_ESCAPED) return SYNTAX_ESCAPED[escape];
  if (/^[0-7]/.test(escape)) return String.fromCodePoint(parseInt(escape, 8));
  if (escape.length === 1 && "xuUN".includes(escape)) throw new FilterError(`\\${escape} cannot be read`, begin);
  if (/^[xuU]/.test(escape)) {
    const code = parseInt(escape.slice(1), 16);
    if (code > 0x10ffff) throw new FilterError("there is no such character", begin);
    return String.fromCodePoint(code);
  }
  return escape;
}

// -- tree -------------------------------------------------------------------------------------------------

// Return the tree of a filter; throws a FilterError if its text is none.
export function syntaxTree(source) {
  return new SyntaxParser(syntaxTokens(source)).whole();
}

class SyntaxParser {
  constructor(tokens) {
    this.tokens = tokens;
    this.at = 0;
    this.depth = 0;
  }

  get next() {
    return this.tokens[this.at];
  }

  sees(...marks) {
    return this.next.kind === "mark" && marks.includes(this.next.value);
  }

  takes(...marks) {
    return this.sees(...marks) && this.tokens[this.at++];
  }

  expect(mark) {
    if (!this.takes(mark)) this.fail();
  }

  fail() {
    throw new FilterError(this.next.value === "=" ? "to compare, write '=='" : "invalid syntax", this.next.begin);
  }

  node(kind, begin, parts, more = {}) {
    const height = 1 + Math.max(0, ...parts.map((part) => part.height));
    if (height > SYNTAX_DEEPEST) throw new FilterError("it is nested too deeply");
    return { kind, parts, height, begin: begin.begin, end: this.tokens[this.at - 1].end, ...more };
  }

  deeper(parse) {
    this.depth += 1;
    if (this.depth > SYNTAX_DEEPEST) throw new FilterError("it is nested too deeply");
    const node = parse();
    this.depth -= 1;
    return node;
  }

  whole() {
    const begin = this.next;
    const parts = this.several("");
    if (this.next.kind !== "end") this.fail();
    return parts.length === 1 && !parts.hasComma ? parts[0] : this.node("list", begin, parts);
  }

  // Expressions between commas, up to a closing mark or the end.
  several(closing) {
    const parts = [this.expression()];
    while (this.takes(",")) {
      parts.hasComma = true;
      if (this.sees(closing) || this.next.kind === "end") break;
      parts.push(this.expression());
    }
    return parts;
  }

  expression() {
    return this.deeper(() => this.either("or", () => this.either("and", () => this.negation())));
  }

  either(word, parse) {
    const begin = this.next;
    const parts = [parse()];
    while (this.takes(word)) parts.push(parse());
    return parts.length === 1 ? parts[0] : this.node("either", begin, parts, { isOr: word === "or" });
  }

  negation() {
    const begin = this.next;
    if (!this.takes("not")) return this.comparison();
    return this.node("unary", begin, [this.deeper(() => this.negation())], { mark: "not" });
  }

  comparison() {
    const begin = this.next;
    const parts = [this.binary(1)];
    const marks = [];
    while (this.next.kind === "mark" && SYNTAX_COMPARED.has(this.next.value)) {
      const { value } = this.takes(this.next.value);
      if (value === "not") this.expect("in");
      marks.push(value === "not" ? "not in" : value === "is" && this.takes("not") ? "is not" : value);
      parts.push(this.binary(1));
    }
    return marks.length === 0 ? parts[0] : this.node("comparison", begin, parts, { marks });
  }

  // Operators of two operands, from left to right, that bind at least as strongly.
  binary(least) {
    const begin = this.next;
    let left = this.unary();
    while (this.next.kind === "mark" && SYNTAX_STRENGTHS.get(this.next.value) >= least) {
      const { value } = this.takes(this.next.value);
      left = this.node("binary", begin, [left, this.binary(SYNTAX_STRENGTHS.get(value) + 1)], { mark: value });
    }
    return left;
  }

  unary() {
    const begin = this.next;
    const sign = this.takes("-", "+", "~");
    return sign ? this.node("unary", begin, [this.deeper(() => this.unary())], { mark: sign.value }) : this.power();
  }

  power() {
    const begin = this.next;
    const base = this.withParts();
    if (!this.takes("**")) return base;
    const exponent = this.deeper(() => this.unary());
    return this.node("binary", begin, [base, exponent], { mark: "**" });
  }

  withParts() {
    const begin = this.next;
    let node = this.atom();
    for (;;) {
      if (this.takes(".")) {
        const { kind, name } = this.next;
        if (name === undefined || kind === "mark" || SYNTAX_RESERVED.has(name)) this.fail();
        this.at += 1;
        node = this.node("attribute", begin, [node], { name });
      } else if (this.takes("[")) {
        const place = this.expression();
        this.expect("]");
        node = this.node("item", begin, [node, place]);
      } else if (this.takes("(")) node = this.call(begin, node);
      else return node;
    }
  }

  call(begin, called) {
    const parts = [called];
    let isOdd = false; // with an argument that has a name or a star
    while (!this.sees(")")) {
      if (this.takes("*", "**")) isOdd = true;
      else if (this.next.kind === "name" && this.tokens[this.at + 1].value === "=") [this.at, isOdd] = [this.at + 2, true];
      parts.push(this.expression());
      if (!this.takes(",")) break;
    }
    this.expect(")");
    return this.node("call", begin, parts, { isOdd });
  }

  atom() {
    const begin = this.next;
    if (begin.kind === "name" || begin.kind === "constant") {
      this.at += 1;
      if (begin.kind === "name") return this.node("name", begin, [], { name: begin.name });
      return this.constant(begin);
    }
    const closing = { "(": ")", "[": "]", "{": "}" }[begin.kind === "mark" && begin.value];
    if (!closing) this.fail();
    this.at += 1;
    const parts = this.sees(closing) ? [] : this.several(closing);
    if (this.next.kind === "end") throw new FilterError(`'${begin.value}' was never closed`, begin.begin);
    this.expect(closing);
    if (closing === ")" && parts.length === 1 && !parts.hasComma) return parts[0];
    return this.node("list", begin, parts, { isOdd: closing === "}" && parts.length === 0 });
  }

  // A constant; texts that follow each other are one.
  constant(begin) {
    let { value, isOdd } = begin;
    const { isInteger = typeof value === "boolean" } = begin;
    while (begin.isText && this.next.isText) {
      value += this.next.value;
      isOdd ||= this.next.isOdd;
      this.at += 1;
    }
    return this.node("constant", begin, [], { value, isOdd, isInteger });
  }
}
