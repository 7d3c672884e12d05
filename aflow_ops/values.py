"""What goes in and out of an operator call, and what a workflow's answer is, as text."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from aflow_ops.operators import OPERATORS, Operator
from aflow_ops.operators.base import IGNORED_ARGUMENTS

# What a trace keeps of one text.
MAX_TRACE_CHARS = 4_000
# A result in a tuple in a dict: that deep an answer is looked for.
MAX_ANSWER_DEPTH = 5
# Of a value that a workflow hands over: a list that holds another one twice, 25 times over, is small in its
# interpreter, and 33 million parts as text.
MAX_PARTS = 20_000
MAX_DEPTH = 50
MAX_CHARS = 4_000_000
# Keys under which workflows return their answer in a dict of their own, the clearest first.
ANSWER_KEYS = ("answer", "final_answer", "solution", "response", "result", "output", "code")
# Keys of what an answer cost, beside it.
_COST_KEYS = frozenset({"cost", "total_cost", "cost_usd", "tokens", "total_tokens", "usage", "calls", "steps"})


def bind_arguments(
    operator: type[Operator], args: Sequence[Any], kwargs: Mapping[str, Any], max_chars: int
) -> dict[str, Any]:
    """Match a call's arguments to the operator's signature and bring them to its types.

    An operator's result passed whole stands for its main text, as does any number; a list of solutions likewise item
    by item.

    Raises:
        TypeError: missing, unknown or unusable arguments.
    """
    if not is_bounded([args, kwargs]):
        raise TypeError(f"{operator.__name__}: an argument holds too many parts")
    known = {name: value for name, value in kwargs.items() if name not in IGNORED_ARGUMENTS}
    signature = operator.signature()
    try:
        bound = signature.bind(*args, **known).arguments
    except TypeError as error:
        raise TypeError(f"{operator.__name__}: {error}") from None
    return {
        name: _coerced(name, value, signature.parameters[name].annotation, max_chars) for name, value in bound.items()
    }


def checked_output(operator: type[Operator], output: Any) -> dict[str, Any]:
    """Return what an operator returned, if it is what its class says: a dict of plain data with the keys of `returns`.

    Raises:
        TypeError: it is something else.
    """
    name = operator.__name__
    if not isinstance(output, dict) or set(output) != set(operator.returns):
        got = f"the keys {', '.join(map(str, output))}" if isinstance(output, dict) else type(output).__name__
        raise TypeError(f"{name} must return a dict with the keys {', '.join(operator.returns)}, not {got}")
    for key, value in output.items():
        if not _is_plain(value):
            raise TypeError(f"{name} returned {type(value).__name__} under {key!r}, which is no plain data")
    return output


def improved_draft(
    operator: type[Operator], arguments: Mapping[str, Any] | None, output: Mapping[str, Any] | None
) -> tuple[str, str] | None:
    """Return the draft that an improving operator was given and what it made of it; `None` for any other call."""
    if not operator.improves or arguments is None or output is None:
        return None
    return result_text(arguments["solution"]), result_text(output[operator.main])


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, bool, int, float))


def is_bounded(value: Any) -> bool:
    """Whether a value has a sane number of parts, levels and characters when it is written out."""
    left, parts, chars = [(value, 0)], 0, 0
    while left:
        item, depth = left.pop()
        parts += 1
        chars += len(item) if isinstance(item, (str, bytes)) else 0
        if parts > MAX_PARTS or depth > MAX_DEPTH or chars > MAX_CHARS:
            return False
        if isinstance(item, (dict, list, tuple, set, frozenset)):
            if len(item) > MAX_PARTS:
                return False
            held = [*item, *item.values()] if isinstance(item, dict) else item
            left.extend((part, depth + 1) for part in held)
    return True


def _coerced(name: str, value: Any, annotation: Any, max_chars: int) -> Any:
    if annotation is int:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        return int(max(0, min(value, 10)))
    if annotation == list[str]:
        if not isinstance(value, (list, tuple)) or not value:
            raise TypeError(f"{name} must be a list with at least one solution, not {type(value).__name__}")
        return [result_text(item)[:max_chars] for item in value[:32]]
    if annotation is not str and value is None:
        return None
    return result_text(value)[:max_chars]


def result_text(value: Any) -> str:
    """Return the text that a value stands for where an operator expects text."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for operator in OPERATORS.values():
            if set(value) == set(operator.returns):
                return result_text(value[operator.main])
        texts = list(value.values())
        if len(texts) > 1 and isinstance(texts[0], str) and texts.count(texts[0]) == len(texts):
            return texts[0]  # one result under several names, as the older form's operators return it
        return json.dumps(value, default=str)
    if isinstance(value, (list, tuple)):
        return "\n".join(result_text(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, Decimal, Fraction)):
        return str(value)
    raise TypeError(f"expected text, not {type(value).__name__}")


def answer_text(value: Any) -> str | None:
    """Return the answer in what a workflow returned: text, a number, a dict, a list, or `(answer, cost)`.

    A list of a text and a number is such a pair too: whoever unpacks what AFlow's workflows return takes either.
    """
    for _ in range(MAX_ANSWER_DEPTH):
        if (isinstance(value, tuple) and value) or _is_pair(value):
            value = value[0]
        elif isinstance(value, dict) and (key := _answer_key(value)) is not None:
            value = value[key]
        else:
            break
    if not isinstance(value, (str, bool, int, float, Decimal, Fraction, dict, list)) or value in ({}, []):
        return None
    if not is_bounded(value):
        return None
    try:
        return result_text(value)
    except (TypeError, ValueError, RecursionError):  # such as an integer of more digits than Python prints
        return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] in (
        [str, float],
        [str, int],
        [dict, float],
        [dict, int],
    )


def _answer_key(value: dict[Any, Any]) -> Any:
    for operator in OPERATORS.values():
        if set(value) == set(operator.returns):
            return operator.main
    if len(value) == 1:
        return next(iter(value))
    if (known := next((key for key in ANSWER_KEYS if key in value), None)) is not None:
        return known
    named = [key for key in value if key not in _COST_KEYS]
    return named[0] if len(named) == 1 else None


def shortened(value: Any) -> Any:
    """A JSON-safe copy; long texts lose their middle, for an answer often stands at the end."""
    if isinstance(value, str):
        text, tail = value, MAX_TRACE_CHARS // 4
        if len(value) > MAX_TRACE_CHARS:
            text = f"{value[: MAX_TRACE_CHARS - tail]}... [{len(value)} characters] ...{value[-tail:]}"
        return text.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {str(key): shortened(item) for key, item in list(value.items())[:32]}
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value[:32]]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:MAX_TRACE_CHARS]
