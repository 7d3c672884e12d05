"""The texts of a `prompt.py`, read without running it.

Understood is what such files do: annotated and plain assignments, `+`, `*` and `%`, f-strings, implicit concatenation,
lists, tuples and dicts with their items, conditional expressions, earlier names, and the methods of text
that only make text (`strip`, `format`, `join`, `dedent`, ...).
"""

import ast
import inspect
import string
import textwrap
from collections.abc import Callable
from typing import Any

from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.language.workflow import SOURCE_NAME
from aflow_ops.python_source import parse_source

# Of a whole prompt file, and of one text after its operators.
MAX_PROMPT_CHARS = 400_000
_MAX_ITEMS = 1_000

_METHODS = """
capitalize casefold format join lower lstrip removeprefix removesuffix replace rstrip split splitlines strip title upper
"""
_TEXT_METHODS = frozenset(_METHODS.split())
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "textwrap.dedent": textwrap.dedent,
    "dedent": textwrap.dedent,
    "inspect.cleandoc": inspect.cleandoc,
    "cleandoc": inspect.cleandoc,
    "str": str,
    "len": len,
}


class _UnreadableError(Exception):
    """The value cannot be known without running the file."""


def prompt_constants(source: str) -> dict[str, Any]:
    """Read the constants of a prompt file without running it.

    Args:
        source (`str`): Python, as in AFlow's `prompt.py` or a `<prompt>` block.

    Returns:
        `dict[str, Any]`: text, or lists and dicts of it, by name. What cannot be read is left out: the checker names
        it where a workflow uses it.
    """
    if len(source) > MAX_PROMPT_CHARS:
        return {}
    try:
        statements = parse_source(plain_fstrings(source.replace("\r\n", "\n")), SOURCE_NAME).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    names: dict[str, Any] = {}
    for statement in statements:
        try:
            _assign(statement, names)
        except (_UnreadableError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            continue
    return {name: value for name, value in names.items() if _total(value) <= MAX_PROMPT_CHARS}


def _assign(statement: ast.stmt, names: dict[str, Any]) -> None:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                names.pop(target.id, None)
        value = _value(statement.value, names)
        for target in statement.targets:
            if isinstance(target, ast.Name):
                names[target.id] = value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        if isinstance(statement.target, ast.Name):
            names[statement.target.id] = _value(statement.value, names)
    elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        old = names.pop(statement.target.id)
        names[statement.target.id] = _operated(statement.op, old, _value(statement.value, names))


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    value = _evaluated(node, names)
    if _total(value) > MAX_PROMPT_CHARS:
        raise _UnreadableError
    return value


def _evaluated(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, bool, type(None))):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.JoinedStr):
        return "".join(str(_evaluated(part, names)) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        value, spec = _value(node.value, names), _value(node.format_spec, names) if node.format_spec else ""
        converted = {114: repr, 97: ascii}.get(node.conversion, lambda item: item)(value)
        return _formatted("{:" + spec + "}", [converted], {})
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, names) for item in node.elts[:_MAX_ITEMS]]
    if isinstance(node, ast.Dict):
        return {
            _value(key, names): _value(item, names)
            for key, item in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.BinOp):
        return _operated(node.op, _value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, names) else node.orelse, names)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, names)
    if isinstance(node, ast.Subscript):
        return _value(node.value, names)[_index(node.slice, names)]
    if isinstance(node, ast.Call):
        return _called(node, names)
    raise _UnreadableError


def _index(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Slice):
        return slice(*(None if part is None else _value(part, names) for part in (node.lower, node.upper, node.step)))
    return _value(node, names)


def _operated(operation: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(operation, ast.Add) and isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(operation, ast.Add) and isinstance(left, list) and isinstance(right, list):
        return left + right
    if isinstance(operation, ast.Mult) and isinstance(left, str) and isinstance(right, int):
        if len(left) * max(right, 0) > MAX_PROMPT_CHARS:
            raise _UnreadableError
        return left * right
    if isinstance(operation, ast.Mod) and isinstance(left, str):
        values = right if isinstance(right, list) else [right]
        if left.count("%s") != left.count("%") - 2 * left.count("%%"):
            raise _UnreadableError  # widths and precisions may be of any size
        _bounded(left.count("%s") * _total(values))
        return left % tuple(values)
    raise _UnreadableError


def _called(node: ast.Call, names: dict[str, Any]) -> Any:
    args = [_value(argument, names) for argument in node.args]
    kwargs = {str(keyword.arg): _value(keyword.value, names) for keyword in node.keywords if keyword.arg}
    if len(kwargs) < len(node.keywords):
        raise _UnreadableError
    function = _FUNCTIONS.get(ast.unparse(node.func))
    if function is not None:
        return function(*args, **kwargs)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _TEXT_METHODS:
        text = _value(node.func.value, names)
        if not isinstance(text, str) or (node.func.attr == "replace" and not args[0]):
            raise _UnreadableError
        if node.func.attr == "format":
            return _formatted(text, args, kwargs)
        if node.func.attr == "join":
            _bounded(len(text) * len(args[0]))
        if node.func.attr == "replace":
            _bounded(text.count(args[0]) * len(args[1]))
        return getattr(text, node.func.attr)(*args, **kwargs)
    raise _UnreadableError


def _bounded(size: int) -> None:
    if size > 4 * MAX_PROMPT_CHARS:
        raise _UnreadableError


def _formatted(text: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """`str.format` for plain fields: no attributes, no widths of any size."""
    _bounded(text.count("{") * _total([args, kwargs]))
    for _, name, spec, _ in string.Formatter().parse(text):
        if (name and not (name.isidentifier() or name.isdigit())) or len(spec or "") > 4:
            raise _UnreadableError
    return text.format(*args, **kwargs)


def _total(value: Any) -> int:
    """Characters in a value, roughly."""
    if isinstance(value, str):
        return len(value) + 8
    if isinstance(value, dict):
        return sum(_total(key) + _total(item) for key, item in value.items())
    return sum(map(_total, value)) if isinstance(value, list) else 8
