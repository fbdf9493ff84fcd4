"""Expressions over named values, evaluated by simpleeval and never by Python's eval.

simpleeval guards by lists of forbidden things. This module instead allows only: comparisons, arithmetic on numbers,
names with their parts, and `FUNCTIONS`. There are no methods and no attributes of Python objects, and no regular
expressions, whose matching may take exponential time, unlike `fnmatch`. Import this module only when needed.
"""

from __future__ import annotations

import ast
import fnmatch
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from simpleeval import InvalidExpression, SimpleEval

from notata._base.display import indefinite
from notata.errors import ConfigurationError
from notata.formats import equal

__all__ = ["FUNCTIONS", "WORDS", "Expression", "MissingValueError", "Path"]

Path: TypeAlias = tuple[str | int, ...]
"""A name and the parts that follow it: keys of dictionaries, or indexes of lists."""

_LONGEST: Final = 4096  # characters of an expression
_LONGEST_PATTERN: Final = 1000  # characters
_BITS: Final = 2**15  # maximum bits of an integer; Python reads no longer ones from JSON

T = TypeVar("T")


class MissingValueError(Exception):
    """A name has no value."""


class _TooLargeValueError(Exception):
    """A number is too large to be computed."""


def _texts(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that accepts only strings; its error names the function."""

    def checked(*values: Any) -> Any:
        for value in values:
            if not isinstance(value, str):
                raise TypeError(f"{name}() takes texts, not {indefinite(type(value).__name__)}")
        return call(*values)

    return checked


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise TypeError(f"len() takes a text, a list or a dictionary, not {indefinite(type(value).__name__)}")
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


FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int, int]]] = {
    "abs": (abs, 1, 1),
    "contains": (lambda whole, part: _is_in(part, whole), 2, 2),
    "days": (lambda count: _number(count) * 86_400, 1, 1),
    "endswith": (_texts("endswith", str.endswith), 2, 2),
    "has": (bool, 1, 1),  # never called: `_Evaluator` only checks that its argument has a value
    "hours": (lambda count: _number(count) * 3600, 1, 1),
    "len": (_length, 1, 1),
    "lower": (_texts("lower", str.lower), 1, 1),
    "matches": (_texts("matches", _matches), 2, 2),
    "max": (max, 1, 99),
    "min": (min, 1, 99),
    "minutes": (lambda count: _number(count) * 60, 1, 1),
    "startswith": (_texts("startswith", str.startswith), 2, 2),
}
"""The functions of expressions, each with the minimum and maximum number of arguments."""

WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
"""Names of constants, as in JSON; a parameter with such a name is ``params.true``."""

_OF_TEXTS: Final = {"contains", "endswith", "matches", "startswith"}

_OPERAND: Final = re.compile(r"((?:==|!=|<=|>=|<|>)\s*)([^'\"=<>]+?)(?=\s*(?:\band\b|\bor\b|[)\]]|$))")


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
        if len(text) > _LONGEST:
            raise ConfigurationError(f"a filter has at most {_LONGEST} characters, not {len(text)}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's warnings about '\\d' or 1and 2
                self._tree = _Words().visit(ast.parse(text.strip(), mode="eval").body)
        except SyntaxError as error:
            rest = self._from(error.offset)
            alone = rest.startswith("=") and not rest.startswith("==")
            why = "it is empty" if not text.strip() else "to compare, write '=='" if alone else error.msg
            with_quotes = _with_quotes(text.strip())
            why += f"; a text needs quotes: {with_quotes}" if with_quotes else ""
            raise self._refused(why, error.offset, rest) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._refused(str(error) or "it is nested too deeply") from None
        try:
            self.paths = tuple(dict.fromkeys(self._checked(self._tree)))
            self._evaluator = _Evaluator()
        except RecursionError:
            raise self._refused("it is nested too deeply") from None

    def holds(self, value_of: Callable[[Path], Any]) -> bool:
        """Check whether it is true. Without a value, or with a value that does not fit, it is not.

        Args:
            value_of: Returns the value of one of `paths`; raises `MissingValueError` or `LookupError` without one.
        """
        try:
            return _known(lambda: bool(self._evaluator.of(self._tree, value_of)), otherwise=False)
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
        data = self.text.strip().encode()
        for node in sorted(found, key=lambda node: node.col_offset, reverse=True):
            start, end = node.col_offset, node.end_col_offset
            data = data[:start] + repr(data[start:end].decode()).encode() + data[end:]
        return (data.decode(), tuple(path for node in found for path in self._checked(node))) if found else None

    def _bare(self, is_unseen: Callable[[Path], bool], is_text: Callable[[Path], bool]) -> Iterator[ast.expr]:
        """Yield the parts that look like strings without quotes."""
        for operands in self._compared():
            paths = [tuple(self._checked(operand)) for operand in operands]
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
                yield [element for operand in (node.left, *node.comparators) for element in _elements(operand)]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OF_TEXTS:
                yield node.args

    # -- check ---------------------------------------------------------------------------------------------

    def _checked(self, node: ast.expr) -> Iterator[Path]:
        """Yield the paths below a node, and check all nodes."""
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            yield self._path(node)
            return
        parts = list(self._parts(node))
        paths = [path for part in parts for path in self._checked(part)]
        if parts and not paths:
            self._compute(node)
        yield from paths

    def _parts(self, node: ast.expr) -> Iterator[ast.expr]:
        """Yield the child nodes of a node."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return
            case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values) | ast.Set(elts=values):
                yield from values
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
                yield operand
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                yield from (left, right)
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _OPERATORS for op in ops):
                yield from (left, *others)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                self._count(node, name, len(arguments))
                yield from arguments
            case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
                raise self._wrong(node, f"there is no function {name}(); there are {', '.join(FUNCTIONS)}")
            case ast.Call(func=ast.Attribute()):
                raise self._wrong(node, "there are no methods; write lower(name), startswith(name, 'a')")
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise self._wrong(node, "write 'and' and 'or', not '&' and '|'")
            case _:
                raise self._wrong(node, "a filter cannot contain this")

    def _count(self, node: ast.expr, name: str, given: int) -> None:
        _, least, most = FUNCTIONS[name]
        if not least <= given <= most:
            takes = f"{least}" if least == most else f"{least} or more"
            raise self._wrong(node, f"{name}() takes {takes} argument{'s' * (takes != '1')}, not {given}")

    def _compute(self, node: ast.expr) -> None:
        """Compute a part without names: if it fails, it fails for every run."""
        try:
            _Evaluator().of(node, _no_value)
        except (InvalidExpression, _TooLargeValueError, *_FAILS) as error:
            raise self._wrong(node, f"it has no value: {' '.join(str(error).split())}") from None

    def _path(self, node: ast.expr) -> Path:
        match node:
            case ast.Name(id=name):
                pass
            case ast.Attribute(value=whole, attr=name):
                return (*self._path(whole), self._public(node, name))
            case ast.Subscript(value=whole, slice=ast.Constant(value=str() as name)):
                return (*self._path(whole), name)
            case ast.Subscript(value=whole, slice=ast.Constant(value=int() as place)):
                return (*self._path(whole), place)
            case ast.Subscript(
                value=whole, slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as place))
            ):
                return (*self._path(whole), -place)
            case _:
                raise self._wrong(node, "only names have parts: params.x, params['x y'], params.x[0]")
        return (self._public(node, name),)

    def _public(self, node: ast.expr, name: str) -> str:
        if name.startswith("__"):
            raise self._wrong(node, f"there is no {name}")
        return name

    def _wrong(self, node: ast.expr, why: str) -> ConfigurationError:
        source = ast.get_source_segment(self.text.strip(), node) or ""
        begin = len(self.text.strip().encode()[: node.col_offset].decode("utf-8", "ignore"))
        return self._refused(why, begin + 1 if node.lineno == 1 else None, source)

    def _from(self, column: int | None) -> str:
        return self.text.strip()[column - 1 :] if column else ""

    def _refused(self, why: str, column: int | None = None, source: str = "") -> ConfigurationError:
        part = source if len(source) <= 40 else f"{source[:40]}…"
        where = f" at column {column}" * bool(column) + f" ({part})" * bool(part)
        whole = self.text if len(self.text) <= 80 else f"{self.text[:80]}…"
        return ConfigurationError(f"the filter {whole!r} cannot be used{where}: {why}")


# -- evaluate ----------------------------------------------------------------------------------------------


_FAILS: Final = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError)


def _known(call: Callable[[], T], otherwise: T) -> T:
    try:
        return call()
    except (MissingValueError, InvalidExpression, *_FAILS):
        return otherwise


def _no_value(_path: Path) -> Any:
    raise MissingValueError("the run has no path")


def _number(value: Any) -> Any:
    """Return a number that is safe for arithmetic; strings can neither be repeated nor formatted."""
    if not isinstance(value, int | float):
        raise TypeError(f"{indefinite(type(value).__name__)} is not a number")
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise _TooLargeValueError(f"a number has at most {_BITS} bits")
    return value


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: _number(compute(_number(left), _number(right)))


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise _TooLargeValueError(f"a number has at most {_BITS} bits")
    return base**exponent


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


class _Evaluator(SimpleEval):  # type: ignore[misc]
    """A simpleeval evaluator for names with parts, whose values may be missing.

    ``and`` and ``or`` use three-valued logic, as SQL does: ``a or b`` is true if `b` is, even without a value of `a`.
    """

    def __init__(self) -> None:
        functions = {name: function for name, (function, _, _) in FUNCTIONS.items()}
        super().__init__(operators=dict(_OPERATORS), functions=functions, names={})
        self.nodes |= {
            ast.Name: self._eval_path,
            ast.Attribute: self._eval_path,
            ast.Subscript: self._eval_path,
            ast.List: self._eval_elements,
            ast.Tuple: self._eval_elements,
            ast.Set: self._eval_elements,
        }

    def of(self, node: ast.expr, value_of: Callable[[Path], Any]) -> Any:
        """Return the value of a checked node."""
        self._value_of = value_of
        return self._eval(node)

    def _eval_path(self, node: ast.expr) -> Any:
        return self._value_of(_path_of(node))

    def _eval_elements(self, node: ast.List | ast.Tuple | ast.Set) -> list[Any]:
        return [self._eval(element) for element in node.elts]

    def _eval_boolop(self, node: ast.BoolOp) -> bool:
        decisive = isinstance(node.op, ast.Or)
        unknown = False
        for value in node.values:
            truth = _known(lambda value=value: bool(self._eval(value)), otherwise=None)  # type: ignore[misc]
            if truth is decisive:
                return decisive
            unknown = unknown or truth is None
        if unknown:
            raise MissingValueError("the run has no path")
        return not decisive

    def _eval_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "has":
            return _known(lambda: (self._eval(node.args[0]), True)[1], otherwise=False)
        return super()._eval_call(node)


class _Words(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(WORDS[node.id]), node) if node.id in WORDS else node


def _elements(node: ast.expr) -> list[ast.expr]:
    """Return the elements of a list literal; any other node is returned as the only element."""
    return node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else [node]


def _is_number(node: ast.expr) -> bool:
    """Check whether a part without names is a number or arithmetic, as ``2026 - 11 - 28``."""
    constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return bool(constants) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in constants
    )


def _with_quotes(text: str) -> str:
    """Return an invalid expression with quotes around its invalid parts; empty if quotes do not help."""
    whole = _OPERAND.sub(lambda found: found[1] + (found[2] if _reads(found[2]) else repr(found[2].strip())), text)
    return whole if whole != text and _reads(whole) else ""


def _reads(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _path_of(node: ast.expr) -> Path:
    """Return the path of a checked node."""
    match node:
        case ast.Attribute(value=whole, attr=name):
            return (*_path_of(whole), name)
        case ast.Subscript(value=whole, slice=place):
            return (*_path_of(whole), ast.literal_eval(place))
    assert isinstance(node, ast.Name)
    return (node.id,)
