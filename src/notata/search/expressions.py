"""Expressions over named values, evaluated by simpleeval and never by Python; it knows no runs.

What simpleeval guards by lists of what is forbidden is allowed here by name: comparisons, arithmetic on numbers, names
with their parts, and `FUNCTIONS`. There are no methods and no attributes of Python objects, and no regular expressions,
which may take for ever: `fnmatch` does not. Import it late.
"""

from __future__ import annotations

import ast
import fnmatch
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from simpleeval import InvalidExpression, SimpleEval

from notata.errors import ConfigurationError

__all__ = ["FUNCTIONS", "Expression", "Lacking", "Path"]

Path: TypeAlias = tuple[str | int, ...]
"""A name and what follows it: that of a part, or a place in a list."""

_LONGEST: Final = 4096  # characters of an expression
_LONGEST_PATTERN: Final = 1000  # characters
_BITS: Final = 2**15  # of an integer; Python reads no longer ones from JSON

T = TypeVar("T")


class Lacking(Exception):
    """There is nothing by this name."""


class _TooMuch(Exception):
    """A number too large to be computed here."""


def _matches(text: str, pattern: str) -> bool:
    if len(pattern) > _LONGEST_PATTERN:
        raise _TooMuch(f"a pattern has at most {_LONGEST_PATTERN} characters")
    return fnmatch.fnmatchcase(text, pattern)


FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int, int]]] = {
    "abs": (abs, 1, 1),
    "contains": (lambda whole, part: part in whole, 2, 2),
    "days": (lambda count: _number(count) * 86_400, 1, 1),
    "endswith": (str.endswith, 2, 2),
    "has": (bool, 1, 1),  # its argument alone tells
    "hours": (lambda count: _number(count) * 3600, 1, 1),
    "len": (len, 1, 1),
    "lower": (str.lower, 1, 1),
    "matches": (_matches, 2, 2),
    "max": (max, 1, 99),
    "min": (min, 1, 99),
    "minutes": (lambda count: _number(count) * 60, 1, 1),
    "startswith": (str.startswith, 2, 2),
}
"""What may be called, each with the least and the greatest number of its arguments."""


class Expression:
    """An expression that was read and checked.

    Attributes:
        text: As it was given.
        paths: The names that it uses, with their parts as far as they are written.
        too_much: Why it could not be computed with some values; empty if it could.

    Args:
        text: Such as ``omega > 1 and solver.order in [2, 4]``.

    Raises:
        ConfigurationError: It cannot be read, uses what there is not, or a part of it has no value.

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
                warnings.simplefilter("ignore")  # of Python, about what it would do with '\\d' or 1and 2
                self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            rest = self._from(error.offset)
            alone = rest.startswith("=") and not rest.startswith("==")
            why = "it is empty" if not text.strip() else "to compare, write '=='" if alone else error.msg
            raise self._refused(why, error.offset, rest) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._refused(str(error) or "it is nested too deeply") from None
        try:
            self.paths = tuple(dict.fromkeys(self._checked(self._tree)))
            self._evaluator = _Evaluator()
        except RecursionError:
            raise self._refused("it is nested too deeply") from None

    def holds(self, value_of: Callable[[Path], Any]) -> bool:
        """Whether it is true; not where it cannot be told, for want of a value or for one that does not fit.

        Args:
            value_of: The value of one of `paths`; it raises `Lacking` or a `LookupError` where there is none.
        """
        try:
            return _known(lambda: bool(self._evaluator.of(self._tree, value_of)), otherwise=False)
        except _TooMuch as error:
            self.too_much = str(error)
            return False

    # -- check ---------------------------------------------------------------------------------------------

    def _checked(self, node: ast.expr) -> Iterator[Path]:
        """The paths below a node, all of which may be there."""
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            yield self._path(node)
            return
        parts = list(self._parts(node))
        paths = [path for part in parts for path in self._checked(part)]
        if parts and not paths:
            self._compute(node)
        yield from paths

    def _parts(self, node: ast.expr) -> Iterator[ast.expr]:
        """What a node is made of."""
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
                raise self._wrong(node, "a filter has no such thing")

    def _count(self, node: ast.expr, name: str, given: int) -> None:
        _, least, most = FUNCTIONS[name]
        if not least <= given <= most:
            takes = f"{least}" if least == most else f"{least} or more"
            raise self._wrong(node, f"{name}() takes {takes} argument{'s' * (takes != '1')}, not {given}")

    def _compute(self, node: ast.expr) -> None:
        """Compute what no run has a part in: where that fails, it fails for every run."""
        try:
            _Evaluator().of(node, _nothing)
        except (InvalidExpression, _TooMuch, *_FAILS) as error:
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
    except (Lacking, InvalidExpression, *_FAILS):
        return otherwise


def _nothing(_path: Path) -> Any:
    raise Lacking


def _number(value: Any) -> Any:
    """A number that can be computed with; texts are neither repeated nor formatted."""
    if not isinstance(value, int | float):
        raise TypeError(f"{type(value).__name__} is no number")
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise _TooMuch(f"a number has at most {_BITS} bits")
    return value


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: _number(compute(_number(left), _number(right)))


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise _TooMuch(f"a number has at most {_BITS} bits")
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
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}


class _Evaluator(SimpleEval):  # type: ignore[misc]
    """simpleeval with names that have parts, and with values that may be lacking.

    ``and`` and ``or`` know what does not depend on what is lacking, as SQL does: ``a or b`` holds if `b` does.
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
        """The value of a node that was checked."""
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
            raise Lacking
        return not decisive

    def _eval_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "has":
            return _known(lambda: (self._eval(node.args[0]), True)[1], otherwise=False)
        return super()._eval_call(node)


def _path_of(node: ast.expr) -> Path:
    """The path of a node that was checked."""
    match node:
        case ast.Attribute(value=whole, attr=name):
            return (*_path_of(whole), name)
        case ast.Subscript(value=whole, slice=place):
            return (*_path_of(whole), ast.literal_eval(place))
    assert isinstance(node, ast.Name)
    return (node.id,)
