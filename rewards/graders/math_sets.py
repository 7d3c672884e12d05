r"""Sets of real numbers: intervals, inequalities, and what they are joined to.

Example: `-2 \le x \le 7` has the numbers that `[-2, 7]` has.
"""

import itertools
from collections.abc import Callable
from typing import Any

import mpmath

from rewards.graders.math_nodes import Node, is_scalar
from rewards.graders.math_value import NoValueError, names_in, number_of
from rewards.graders.notation import word_set

_SETS = word_set("union intersection difference reals empty set bracket relation list")
FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "=": "=", "ne": "ne"}

Value = Any  # Fraction, or mpmath's number
Member = Callable[[Value], bool]


def is_set_of_reals(node: Node) -> bool:
    """Whether a list is one of inequalities, which say together what the numbers are."""
    return (
        node.op == "list"
        and node.text in ("or", "and")
        and all(item.op == "relation" for item in node.args)
        and any(item.text != "=" for item in node.args)
    )


def same_set(left: Node, right: Node) -> bool:
    """Whether two sets of real numbers are the same; false for what is none.

    Raises:
        NoValueError: an end is no number, or the inequality is not solved.
    """
    if not ({left.op, right.op} <= _SETS) or {left.op, right.op} == {"bracket"}:
        return False
    ends: list[Value] = []
    names: set[str] = set()
    members = [_member(node, ends, names) for node in (left, right)]
    if len(names) > 1:
        return False
    ordered: list[Value] = []
    for end in sorted(ends):
        if not ordered or not _near(end, ordered[-1]):
            ordered.append(end)
    tests = [*ordered, *((a + b) / 2 for a, b in itertools.pairwise(ordered))]
    tests += [ordered[0] - 1, ordered[-1] + 1] if ordered else [mpmath.mpf(0)]
    return all(members[0](value) == members[1](value) for value in tests)


def _near(a: Value, b: Value) -> bool:
    return bool(abs(a - b) <= mpmath.mpf(10) ** -12 * (1 + abs(a)))


def _member(node: Node, ends: list[Value], names: set[str]) -> Member:
    """A test of membership; notes where it changes, and the name of the variable."""
    if node.op == "reals":
        return lambda value: True
    if node.op == "empty":
        return lambda value: False
    if node.op == "set":
        points = [_end(item, ends) for item in node.args]
        return lambda value: any(_near(value, point) for point in points)
    if node.op == "bracket" and len(node.args) == 2:
        return _between(node, ends)
    if node.op == "relation":
        return _relation(node, ends, names)
    if node.op in ("union", "intersection", "difference") or is_set_of_reals(node):
        parts = [_member(part, ends, names) for part in node.args]
        if node.op == "union" or node.text == "or":
            return lambda value: any(part(value) for part in parts)
        if node.op == "difference":
            return lambda value: parts[0](value) and not parts[1](value)
        return lambda value: all(part(value) for part in parts)
    raise NoValueError(f"{node.op} is no set of real numbers")


def _between(node: Node, ends: list[Value]) -> Member:
    low, high = (_end(item, ends) for item in node.args)
    if low > high:
        raise NoValueError("an interval from right to left")
    closed_low, closed_high = node.text[0] == "[", node.text[1] == "]"

    def inside(value: Value) -> bool:
        after = closed_low if _near(value, low) else value > low
        before = closed_high if _near(value, high) else value < high
        return bool(after and before)

    return inside


def _end(node: Node, ends: list[Value]) -> Value:
    """The value of one end, noted unless it is infinite."""
    sign = -1 if node.op == "neg" else 1
    bare = node.args[0] if node.op == "neg" else node
    if bare.op == "name" and bare.text == "infty":
        return sign * mpmath.inf
    if not is_scalar(node) or names_in(node):
        raise NoValueError("an end that is no number")
    ends.append(number_of(node))
    return ends[-1]


def _relation(node: Node, ends: list[Value], names: set[str]) -> Member:
    if node.text == "in":
        if len(node.args) != 2 or node.args[0].op != "name":
            raise NoValueError("in what?")
        names.add(node.args[0].text)
        return _member(node.args[1], ends, names)
    signs = node.text.split()
    steps = [_step(*step, ends, names) for step in zip(signs, node.args, node.args[1:], strict=False)]
    return lambda value: all(step(value) for step in steps)


def _step(sign: str, left: Node, right: Node, ends: list[Value], names: set[str]) -> Member:
    """`x < 3` or `|x| < 3`, from either side."""
    if names_in(right):
        left, right, sign = right, left, FLIPPED.get(sign, "")
    absolute = left.op == "abs"
    variable = left.args[0] if absolute else left
    if variable.op != "name" or not names_in(variable) or sign not in FLIPPED:
        raise NoValueError("an inequality that is not solved")
    names.add(variable.text)
    bound = _end(right, ends)
    if absolute:
        ends.append(-bound)

    def holds(value: Value) -> bool:
        size = abs(value) if absolute else value
        if _near(size, bound):
            return sign in ("le", "ge", "=")
        return bool(
            {"<": size < bound, "le": size < bound, ">": size > bound, "ge": size > bound, "ne": True, "=": False}[sign]
        )

    return holds
