"""Operators of an object that a test made from a class of the solution's: there they are what is under test.

Example: `assert V(1) + V(2) == V(3)` asks the solution for the sum, and compares it by its attributes.

An object that the solution returned is not asked, and neither is one that a test made about it: in
`abs(f(x) - 5) < 1e-6` the solution would be told the answer, and its `__sub__` could agree to everything.

Part of the program of `code_harness.py`.
"""

import operator
from collections.abc import Callable
from typing import Any

BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
ORDER = ("lt", "le", "gt", "ge")
UNARY = ("neg", "pos", "abs", "invert")


def applied(value: Any, name: str, *others: Any) -> Any:
    """What an operator makes of values, on the solution's side; with `r` before its name the value comes last."""
    if name == "contains":
        return others[0] in value
    if name in ("enter", "exit"):
        return getattr(value, f"__{name}__")(*others)
    if name not in (*BINARY, *ORDER, *UNARY):  # reflected
        return getattr(operator, name[1:])(others[0], value)
    return getattr(operator, name)(value, *others)


class Operators:
    """The operators of a `Remote`."""

    _made_from: list[Any] | None
    _ask: Callable[..., Any]

    def _operate(self, name: str, *others: Any) -> Any:
        known = [item._made_from is not None for item in (self, *others) if isinstance(item, Operators)]
        if not all(known):
            raise TypeError(f"an object that the solution returned is not asked for {name}")
        result = self._ask("operator", name, *others)
        if isinstance(result, Operators):
            result.__dict__["_made_from"] = []
        return result

    def __contains__(self, item: object) -> bool:
        return self._operate("contains", item) is True

    def __enter__(self) -> Any:
        return self._operate("enter")

    def __exit__(self, *error: object) -> bool:
        return self._operate("exit", None, None, None) is True


def _method(name: str) -> Callable[..., Any]:
    def operate(self: Operators, *others: Any) -> Any:
        return self._operate(name, *others)

    return operate


for _name in (*BINARY, *ORDER, *UNARY):
    setattr(Operators, f"__{_name.strip('_')}__", _method(_name))
for _name in BINARY:
    setattr(Operators, f"__r{_name.strip('_')}__", _method(f"r{_name}"))
