"""What the constants of a prompt file are computed by: operations and functions that make text, of bounded size."""

import ast
import inspect
import json
import operator
import re
import string
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Of a whole prompt file, and of one text after its operators.
MAX_PROMPT_CHARS = 400_000
MAX_ITEMS = 1_000
_MAX_NUMBER = 10**12
_MAX_ARGUMENTS = 100_000  # characters that a function is given
_MAX_WIDTH = 1_000  # of padding and indentation
_MAX_DEPTH = 50  # of lists in lists

_METHODS = """
capitalize casefold center count endswith expandtabs find format isdigit join ljust lower lstrip partition removeprefix
removesuffix replace rjust rsplit rstrip split splitlines startswith strip swapcase title upper zfill
"""
TEXT_METHODS = frozenset(_METHODS.split())
_NUMBERS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_PERCENT = re.compile(r"%(?:\(\w+\))?[-+ #0]?\d{0,3}(?:\.\d{1,2})?[sdrifgxX]|%%")


class UnreadableError(Exception):
    """The value cannot be known without running the file."""


def items_of(value: Any) -> list[Any]:
    """Return the items of a value, a tuple as a list.

    Raises:
        UnreadableError: it has none, or too many.
    """
    if not isinstance(value, Iterable):
        raise UnreadableError
    items = []
    for item in value:
        items.append(list(item) if isinstance(item, tuple) else item)
        if len(items) > MAX_ITEMS:
            raise UnreadableError
    return items


def operate(operation: ast.operator, left: Any, right: Any) -> Any:
    """Return what a binary operation makes of two values.

    Raises:
        UnreadableError: it is none of those that make text, or it makes too much.
    """
    if isinstance(left, (int, float)) and isinstance(right, (int, float)) and type(operation) in _NUMBERS:
        if max(abs(left), abs(right)) > _MAX_NUMBER:
            raise UnreadableError
        return _NUMBERS[type(operation)](left, right)
    match operation, left, right:
        case ast.Add(), str(), str():
            return left + right
        case ast.Add(), list(), list():
            return left + right
        case ast.BitOr(), dict(), dict():
            return left | right
        case ast.Mult(), str() | list(), int():
            _check_size(total(left) * max(right, 0))
            return left * right
        case ast.Mod(), str(), _:
            return _percent(left, right)
    raise UnreadableError


def _percent(text: str, values: Any) -> str:
    if "%" in _PERCENT.sub("", text):
        raise UnreadableError  # widths and precisions may be of any size
    _check_size(text.count("%") * total(values))
    return text % (tuple(values) if isinstance(values, list) else values)


def compare(operation: ast.cmpop, left: Any, right: Any) -> bool:
    """Return what a comparison of two values says."""
    return _COMPARISONS[type(operation)](left, right)


def call_function(name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what one of `FUNCTIONS` returns, items of any kind as a list.

    Raises:
        UnreadableError: it would be too much.
    """
    if total([args, dict(kwargs)]) > _MAX_ARGUMENTS:
        raise UnreadableError
    value = FUNCTIONS[name](*args, **kwargs)
    return value if isinstance(value, (str, int, float, list, dict)) else items_of(value)


def call_method(text: str, name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what one of `TEXT_METHODS` returns.

    Raises:
        UnreadableError: it would be too much.
    """
    if name == "format":
        return format_text(text, args, kwargs)
    if name == "join":
        _check_size(len(text) * len(args[0]))
    if name == "replace":
        if not args[0]:
            raise UnreadableError
        _check_size(text.count(args[0]) * len(args[1]))
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        _check_width(*args[:1], *kwargs.values())
    found = getattr(text, name)(*args, **kwargs)
    return list(found) if isinstance(found, tuple) else found


def format_text(text: str, args: list[Any], kwargs: Mapping[str, Any]) -> str:
    """`str.format` for plain fields and items: no attributes, no widths of any size.

    Raises:
        UnreadableError: it has other fields.
    """
    _check_size(text.count("{") * total([args, dict(kwargs)]))
    for _, name, spec, _ in string.Formatter().parse(text):
        if (name and not re.fullmatch(r"\w+(?:\[\w+\])*", name)) or len(spec or "") > 4 or "{" in (spec or ""):
            raise UnreadableError
    return text.format(*args, **kwargs)


def _indented(text: str, prefix: str) -> str:
    _check_width(len(prefix))
    _check_size((text.count("\n") + 1) * len(prefix))
    return textwrap.indent(text, prefix)


def _dumped(value: Any, indent: int | None = None, **options: Any) -> str:
    if not isinstance(indent, int | None) or not options.keys() <= {"ensure_ascii", "sort_keys"}:
        raise UnreadableError
    _check_width(8 * (indent or 0))
    return json.dumps(value, indent=indent, **options)


def _summed(items: list[Any], start: Any = 0) -> Any:
    for item in items:
        start = operate(ast.Add(), start, item if isinstance(item, (int, float)) else None)
    return start


def _ranged(*bounds: int) -> list[int]:
    _check_width(len(range(*bounds)))
    return list(range(*bounds))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "textwrap.dedent": textwrap.dedent,
    "dedent": textwrap.dedent,
    "textwrap.indent": _indented,
    "indent": _indented,
    "inspect.cleandoc": inspect.cleandoc,
    "cleandoc": inspect.cleandoc,
    "json.dumps": _dumped,
    **{kind.__name__: kind for kind in (str, int, float, bool, len, min, max, repr, chr, ord, list, tuple, dict)},
    **{kind.__name__: kind for kind in (sorted, reversed, enumerate, zip, any, all)},
    "range": _ranged,
    "set": lambda items=(): list(dict.fromkeys(items)),
    "sum": _summed,
}


def _check_size(size: int) -> None:
    if size > 4 * MAX_PROMPT_CHARS:
        raise UnreadableError


def _check_width(*widths: int) -> None:
    if any(width > _MAX_WIDTH for width in widths if isinstance(width, int)):
        raise UnreadableError


def total(value: Any, depth: int = 0) -> int:
    """Return the characters in a value, roughly; what is empty counts too, or a list of it would be free.

    Raises:
        UnreadableError: its items have items, and so on, for too many levels.
    """
    if depth > _MAX_DEPTH:
        raise UnreadableError
    if isinstance(value, str):
        return len(value) + 8
    if isinstance(value, dict):
        return 8 + sum(total(key, depth + 1) + total(item, depth + 1) for key, item in value.items())
    return 8 + sum(total(item, depth + 1) for item in value) if isinstance(value, list) else 8
