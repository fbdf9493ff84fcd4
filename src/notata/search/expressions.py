"""Expressions over named values: parsed by Python, checked and evaluated here, and never by Python's eval.

An expression consists of comparisons, ``and``, ``or`` and ``not``, arithmetic on numbers, names with their parts, and
`FUNCTIONS`. There are no methods and no attributes of Python objects, and no regular expressions, whose matching may
take exponential time, unlike `fnmatch`. Import this module only when needed.
"""

from __future__ import annotations

import ast
import fnmatch
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from notata._base.display import counted, indefinite
from notata.errors import ConfigurationError
from notata.formats import equal

__all__ = ["FUNCTIONS", "WORDS", "Expression", "MissingValueError", "Path"]

Path: TypeAlias = tuple[str | int, ...]
"""A name and the parts that follow it: keys of dictionaries, or indexes of lists."""

_ValueOf: TypeAlias = Callable[[Path], Any]
_Evaluate: TypeAlias = Callable[[_ValueOf], Any]

_LONGEST: Final = 4096  # characters of an expression
_LONGEST_PATTERN: Final = 1000  # characters
_BITS: Final = 2**15  # maximum bits of an integer; Python reads no longer ones from JSON

T = TypeVar("T")


class MissingValueError(Exception):
    """A name has no value."""


class _TooLargeValueError(Exception):
    """A number is too large to be computed."""


_FAILS: Final = (MissingValueError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError)

# -- functions and operators -------------------------------------------------------------------------------


def _texts(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that accepts only strings; its error names the function."""

    def checked(*values: Any) -> Any:
        for value in values:
            if not isinstance(value, str):
                raise TypeError(f"{name}() takes strings, not {indefinite(type(value).__name__)}")
        return call(*values)

    return checked


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise TypeError(f"len() takes a string, a list or a dictionary, not {indefinite(type(value).__name__)}")
    return len(value)


def _is_in(part: Any, whole: Any) -> bool:
    if isinstance(whole, list):
        return any(equal(part, item) for item in whole)
    if not isinstance(whole, str | dict) or (isinstance(whole, str) and not isinstance(part, str)):
        kinds = [indefinite(type(value).__name__) for value in (part, whole)]
        raise TypeError(f"{kinds[0]} cannot be in {kinds[1]}")
    return part in whole


def _matches(text: str, pattern: str) -> bool:
    if len(pattern) > _LONGEST_PATTERN:
        raise _TooLargeValueError(f"a pattern has at most {_LONGEST_PATTERN} characters")
    return fnmatch.fnmatchcase(text, pattern)


def _number(value: Any) -> Any:
    """Return a number that is safe for arithmetic; strings can neither be repeated nor formatted."""
    if not isinstance(value, int | float):
        raise TypeError(f"{indefinite(type(value).__name__)} is not a number")
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise _TooLargeValueError(f"a number has at most {_BITS} bits")
    return value


def _arithmetic(compute: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: _number(compute(*map(_number, values)))


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise _TooLargeValueError(f"a number has at most {_BITS} bits")
    return base**exponent


def _seconds(unit: int) -> tuple[Callable[..., Any], int, int]:
    return lambda count: _number(count) * unit, 1, 1


FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int, int]]] = {
    "abs": (abs, 1, 1),
    "contains": (lambda whole, part: _is_in(part, whole), 2, 2),
    "days": _seconds(86_400),
    "endswith": (_texts("endswith", str.endswith), 2, 2),
    "has": (bool, 1, 1),  # never called: only whether its argument has a value is checked
    "hours": _seconds(3600),
    "len": (_length, 1, 1),
    "lower": (_texts("lower", str.lower), 1, 1),
    "matches": (_texts("matches", _matches), 2, 2),
    "max": (max, 1, 99),
    "min": (min, 1, 99),
    "minutes": _seconds(60),
    "startswith": (_texts("startswith", str.startswith), 2, 2),
}
"""The functions of expressions, each with the minimum and maximum number of arguments."""

WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
"""Names of constants, as in JSON; a parameter with such a name is ``params.true``."""

_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: _arithmetic(operator.add),
    ast.Sub: _arithmetic(operator.sub),
    ast.Mult: _arithmetic(operator.mul),
    ast.Div: _arithmetic(operator.truediv),
    ast.FloorDiv: _arithmetic(operator.floordiv),
    ast.Mod: _arithmetic(operator.mod),
    ast.Pow: _arithmetic(_power),
    ast.USub: lambda value: -_number(value),
    ast.UAdd: _number,
    ast.Not: operator.not_,
    ast.Eq: equal,
    ast.NotEq: lambda one, other: not equal(one, other),
    ast.Is: equal,
    ast.IsNot: lambda one, other: not equal(one, other),
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.In: _is_in,
    ast.NotIn: lambda part, whole: not _is_in(part, whole),
}

_OF_TEXTS: Final = {"contains", "endswith", "matches", "startswith"}

_OPERAND: Final = re.compile(r"((?:==|!=|<=|>=|<|>)\s*)([^'\"=<>]+)")  # up to a comparison or a quote
_AFTER: Final = re.compile(r"\band\b|\bor\b|[)\]]")  # ends an operand


class Expression:
    """A parsed and checked expression.

    Attributes:
        text: The text as it was given.
        paths: The names that it uses, with the parts that follow them.
        too_much: Why it could not be computed for some values; empty if it could.

    Args:
        text: An expression such as ``omega > 1 and solver.order in [2, 4]``.

    Raises:
        ConfigurationError: The text is invalid, uses something unknown, or a constant part of it cannot be computed.

    >>> expression = Expression("omega > 1 and params['learning rate'] < 0.1")
    >>> expression.paths
    (('omega',), ('params', 'learning rate'))
    >>> expression.holds({("omega",): 2, ("params", "learning rate"): 0.01}.__getitem__)
    True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.too_much = ""
        self._source = text.strip()
        self._path_of: dict[ast.expr, Path] = {}
        if len(text) > _LONGEST:
            raise ConfigurationError(f"a filter has at most {_LONGEST} characters, not {len(text)}")
        try:
            self._tree = _parsed(self._source)
        except SyntaxError as error:
            rest = self._source[error.offset - 1 :] if error.offset else ""
            alone = rest.startswith("=") and not rest.startswith("==")
            why = "it is empty" if not self._source else "to compare, write '=='" if alone else error.msg
            with_quotes = _with_quotes(self._source)
            why += f"; put text in quotes: {with_quotes}" if with_quotes else ""
            raise self._refused(why, error.offset, rest) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._refused(str(error) or "it is nested too deeply") from None
        try:
            self._evaluate = self._compiled(self._tree)
        except RecursionError:
            raise self._refused("it is nested too deeply") from None
        self.paths = tuple(dict.fromkeys(self._path_of.values()))

    def holds(self, value_of: _ValueOf) -> bool:
        """Check whether it is true. Without a value, or with a value that does not fit, it is not.

        Args:
            value_of: Returns the value of one of `paths`; raises `MissingValueError` or `LookupError` without one.
        """
        try:
            return _known(lambda: bool(self._evaluate(value_of)), otherwise=False)
        except _TooLargeValueError as error:
            self.too_much = str(error)
            return False

    def quoted(
        self, is_unseen: Callable[[Path], bool], is_text: Callable[[Path], bool]
    ) -> tuple[str, tuple[Path, ...]] | None:
        """Return the expression with quotes added around strings, and the quoted names; None if no quotes are missing.

        Args:
            is_unseen: Checks whether no run has a value of this name: compared with another value it is a string.
            is_text: Checks whether all values of this name are strings: values compared with it are strings too, as in
                ``started > 2026-11-28``.
        """
        found = [node for node in self._bare(is_unseen, is_text) if node.lineno == node.end_lineno == 1]
        data = self._source.encode()
        for node in sorted(found, key=lambda node: node.col_offset, reverse=True):
            start, end = node.col_offset, node.end_col_offset
            data = data[:start] + repr(data[start:end].decode()).encode() + data[end:]
        names = dict.fromkeys(path for node in found for path in self._paths_in(node))
        return (data.decode(), tuple(names)) if found else None

    def _bare(self, is_unseen: Callable[[Path], bool], is_text: Callable[[Path], bool]) -> Iterator[ast.expr]:
        """Yield the parts that look like strings without quotes."""
        for operands in self._compared():
            paths = [self._paths_in(operand) for operand in operands]
            seen = [path for some in paths for path in some if not is_unseen(path)]
            for place, (operand, names) in enumerate(zip(operands, paths, strict=True)):
                name = bool(names) and all(map(is_unseen, names)) and (place > 0 or bool(seen))
                number = not names and any(map(is_text, seen)) and _is_number(operand)
                if (name or number) and not any(isinstance(part, ast.Call) for part in ast.walk(operand)):
                    yield operand

    def _compared(self) -> Iterator[list[ast.expr]]:
        """Yield the operands of each comparison from left to right, with the elements of lists."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Compare):
                operands = (node.left, *node.comparators)
                yield [part for one in operands for part in getattr(one, "elts", [one])]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OF_TEXTS:
                yield node.args

    def _paths_in(self, node: ast.expr) -> list[Path]:
        """Return the names in a part of the expression."""
        return [self._path_of[part] for part in ast.walk(node) if isinstance(part, ast.expr) and part in self._path_of]

    # -- compile -------------------------------------------------------------------------------------------

    def _compiled(self, node: ast.expr) -> _Evaluate:
        """Check a part of the expression, and return a function that evaluates it.

        A part without names is computed here: if that fails, it fails for every run.
        """
        match node:
            case ast.Name(id=word) if word in WORDS:
                return _constant(WORDS[word])
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return _constant(value)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                path = self._path_of[node] = self._path(node)
                return lambda value_of: value_of(path)
        known = len(self._path_of)
        evaluate = self._compound(node)
        if len(self._path_of) > known:
            return evaluate
        try:
            return _constant(evaluate(_no_value))
        except (_TooLargeValueError, *_FAILS) as error:
            raise self._wrong(node, f"it has no value: {' '.join(str(error).split())}") from None

    def _compound(self, node: ast.expr) -> _Evaluate:
        """Return the function of a part that consists of other parts."""
        match node:
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                return _applied(lambda *values: [*values], self._each(parts))
            case ast.BoolOp(op=op, values=parts):
                return _either(self._each(parts), isinstance(op, ast.Or))
            case ast.UnaryOp(op=op, operand=part) if type(op) in _OPERATORS:
                return _applied(_OPERATORS[type(op)], self._each([part]))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _applied(_OPERATORS[type(op)], self._each([left, right]))
            case ast.Compare(left=left, ops=ops, comparators=others):
                return _chained([_OPERATORS[type(op)] for op in ops], self._each([left, *others]))
            case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in FUNCTIONS:
                call, least, most = FUNCTIONS[name]
                if not least <= len(parts) <= most:
                    takes = counted(least, "argument") if least == most else f"{least} or more arguments"
                    raise self._wrong(node, f"{name}() takes {takes}, not {len(parts)}")
                evaluates = self._each(parts)
                return _has(evaluates[0]) if name == "has" else _applied(call, evaluates)
            case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
                raise self._wrong(node, f"there is no function {name}(); the functions are {', '.join(FUNCTIONS)}")
            case ast.Call(func=ast.Attribute()):
                raise self._wrong(node, "methods are not supported; write lower(name), startswith(name, 'a')")
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise self._wrong(node, "write 'and' and 'or', not '&' and '|'")
        raise self._wrong(node, "a filter cannot contain this")

    def _each(self, nodes: Sequence[ast.expr]) -> list[_Evaluate]:
        return [self._compiled(node) for node in nodes]

    def _path(self, node: ast.expr) -> Path:
        match node:
            case ast.Name(id=name) if name not in WORDS:
                whole: Path = ()
            case ast.Attribute(value=value, attr=name):
                whole = self._path(value)
            case ast.Subscript(value=value, slice=ast.Constant(value=str() | int() as place)):
                return (*self._path(value), place)
            case ast.Subscript(value=value, slice=ast.UnaryOp(ast.USub(), ast.Constant(value=int() as place))):
                return (*self._path(value), -place)
            case _:
                raise self._wrong(node, "only names can have parts: params.x, params['x y'], params.x[0]")
        if name.startswith("__"):
            raise self._wrong(node, f"there is no {name}")
        return (*whole, name)

    def _wrong(self, node: ast.expr, why: str) -> ConfigurationError:
        source = ast.get_source_segment(self._source, node) or ""
        begin = len(self._source.encode()[: node.col_offset].decode("utf-8", "ignore"))
        return self._refused(why, begin + 1 if node.lineno == 1 else None, source)

    def _refused(self, why: str, column: int | None = None, source: str = "") -> ConfigurationError:
        part = source if len(source) <= 40 else f"{source[:40]}…"
        where = f" at column {column}" * bool(column) + f" ({part})" * bool(part)
        whole = self.text if len(self.text) <= 80 else f"{self.text[:80]}…"
        return ConfigurationError(f"the filter {whole!r} cannot be used{where}: {why}")


# -- evaluate ----------------------------------------------------------------------------------------------


def _known(call: Callable[[], T], otherwise: T) -> T:
    try:
        return call()
    except _FAILS:
        return otherwise


def _no_value(_path: Path) -> Any:
    raise MissingValueError("the run has no path")


def _constant(value: Any) -> _Evaluate:
    return lambda value_of: value


def _applied(call: Callable[..., Any], parts: Sequence[_Evaluate]) -> _Evaluate:
    return lambda value_of: call(*[part(value_of) for part in parts])


def _has(part: _Evaluate) -> _Evaluate:
    return lambda value_of: _known(lambda: (part(value_of), True)[1], otherwise=False)


def _chained(operators: Sequence[Callable[[Any, Any], Any]], parts: Sequence[_Evaluate]) -> _Evaluate:
    """Compare neighbours, and stop at the first comparison that is not true."""

    def evaluate(value_of: _ValueOf) -> Any:
        right, result = parts[0](value_of), True
        for compare, part in zip(operators, parts[1:], strict=True):
            left, right = right, part(value_of)
            result = compare(left, right)
            if not result:
                break
        return result

    return evaluate


def _either(parts: Sequence[_Evaluate], decisive: bool) -> _Evaluate:
    """Evaluate ``or`` if `decisive` is true, else ``and``, by the three-valued logic of SQL.

    ``a or b`` is true if `b` is, even without a value of `a`.
    """

    def evaluate(value_of: _ValueOf) -> bool:
        unknown = False
        for part in parts:
            truth = _known(lambda part=part: bool(part(value_of)), otherwise=None)  # type: ignore[misc]
            if truth is decisive:
                return decisive
            unknown = unknown or truth is None
        return not decisive if not unknown else _no_value(())

    return evaluate


# -- source ------------------------------------------------------------------------------------------------


def _parsed(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's warnings about '\\d' or 1and 2
        return ast.parse(text, mode="eval").body


def _is_number(node: ast.expr) -> bool:
    """Check whether a part without names is a number or arithmetic, as ``2026 - 11 - 28``."""
    leaves = [part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.Name)]
    return bool(leaves) and all(type(getattr(leaf, "value", None)) in (int, float) for leaf in leaves)


def _with_quotes(text: str) -> str:
    """Return an invalid expression with quotes around its invalid parts; empty if quotes do not help."""
    whole = _OPERAND.sub(
        lambda found: found[1] + _operand_with_quotes(found[2], is_last=found.end() == len(text)), text
    )
    return whole if whole != text and _reads(whole) else ""


def _operand_with_quotes(text: str, *, is_last: bool) -> str:
    """Return a text that begins with an operand, with quotes around it if it cannot be read. Linear in its length."""
    after = _AFTER.search(text, 1)
    if after is None and not is_last:
        return text
    operand = text[: after.start() if after else len(text)].rstrip()
    return text if _reads(operand) else repr(operand) + text[len(operand) :]


def _reads(text: str) -> bool:
    try:
        _parsed(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
