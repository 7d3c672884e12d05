r"""Whether two readings of mathematics say the same: numbers, expressions, lists, sets, intervals, vectors, relations.

Example: `-2 \le x \le 7` says what `[-2, 7]` says; `x < 1 \text{ or } x > 3` what `(3, \infty) \cup (-\infty, 1)` says.

Lists and sets have no order, brackets have. Sets of real numbers are compared at their ends, between and beyond them.
"""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath

from rewards.graders.math_nodes import Node
from rewards.graders.math_value import NoValueError, exact, has_decimal, names_in, number_of, same_value, sample_points
from rewards.graders.notation import word_set

RELATIVE_TOLERANCE = 1e-6
# What calculating with floats leaves of a whole number.
NOISE = 1e-9
MAX_ITEMS = 40
_SCALARS = word_set("number name add mul div pow neg root call fact abs binom deg")
_SETS = word_set("union intersection difference reals empty set bracket relation list")
# Before a number in brackets these are functions, other letters factors.
_FUNCTION_NAMES = word_set("f g h p q u v F G H P Q")
_FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "=": "=", "ne": "ne"}

Value = Any  # Fraction, or mpmath's number
Member = Callable[[Value], bool]


def is_scalar(node: Node) -> bool:
    """Whether a node is one value: a number or an expression."""
    return node.op in _SCALARS and all(map(is_scalar, node.args))


def same(left: Node, right: Node) -> bool:
    """Whether two readings say the same; never raises."""
    if left == right:
        return True
    try:
        return _same(_canonical(left), _canonical(right))
    except (NoValueError, RecursionError):
        return False


def equal_numbers(left: Node, right: Node) -> bool:
    """Whether two values without variables are equal: whole numbers exactly, decimals to the digits they have.

    A decimal may differ by a millionth of the other value and by less than one in its own last place. Against a whole
    number it may differ by what floats leave over, and nothing but 0 is 0.
    """
    one, other = exact(left), exact(right)
    if one is not None and other is not None:
        if one == other:
            return True
    elif same_value(left, right):
        return True
    if not (has_decimal(left) or has_decimal(right)):
        return False
    try:
        a, b = one if one is not None else number_of(left), other if other is not None else number_of(right)
    except NoValueError:
        return False
    # Plain floats would lose what distinguishes large numbers.
    difference = abs(_mp(a) - _mp(b))
    if a == 0 or b == 0:
        return False
    if _is_whole(a) and _is_whole(b):
        return False
    if _is_whole(a) or _is_whole(b):
        return bool(difference <= NOISE * min(abs(_mp(b)), 10))
    places = [node.places for node in (left, right) if node.op == "number" and node.places]
    step = mpmath.mpf(10) ** -min(places) if places else mpmath.inf
    return bool(difference <= RELATIVE_TOLERANCE * abs(_mp(b)) and difference < step)


def _mp(value: Value) -> Any:
    with mpmath.workdps(60):
        return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else +value


def _is_whole(value: Value) -> bool:
    return isinstance(value, Fraction) and value.denominator == 1


def items_of(node: Node) -> tuple[Node, ...]:
    """Return the values that a list or a set names, with both signs of each `\\pm`."""
    parts = node.args if node.op in ("list", "set") else (node,)
    return tuple(value for part in parts for value in _both_signs(part))


def _both_signs(node: Node) -> Sequence[Node]:
    if not _has_sign(node):
        return (node,)
    return (_signed(node, False), _signed(node, True))


def _has_sign(node: Node) -> bool:
    return node.op in ("pm", "mp") or any(map(_has_sign, node.args))


def _signed(node: Node, lower: bool) -> Node:
    """One of the two values of an expression with `\\pm`; all its signs change together."""
    args = tuple(_signed(part, lower) for part in node.args)
    if node.op in ("pm", "mp"):
        return Node("neg", args) if lower == (node.op == "pm") else args[0]
    return Node(node.op, args, node.text, node.value, node.places)


def unlabelled(node: Node) -> tuple[str | None, Node]:
    """Return what a value is said to be of, and the value: `x = 5` is `("x", 5)`, `f(x) = 2x` is `("f", 2x)`.

    The result of a calculation is its last part: `9 * 2 = 18` is 18, and so is `18 = 9 * 2`; what an expression was
    brought to is the last one: `(x - 1)(x + 1) = x^2 - 1`.
    """
    if node.op != "relation" or set(node.text.split()) not in ({"="}, {"in"}):
        return None, node
    *heads, value = node.args
    label = heads[0].text if heads[0].op == "name" else _function(heads[0])
    steps = heads if label is None else heads[1:]
    if label not in names_in(value) and all(_is_worked_out(step) for step in steps):
        return label, value
    return None, _result(node)


def _result(node: Node) -> Node:
    """The last of several expressions that are equal for themselves; the number, if one is it; else the equation."""
    first, last = node.args[0], node.args[-1]
    kinds = {part.op for part in node.args}
    expressions = set(node.text.split()) == {"="} and "name" not in kinds and kinds != {"number"}
    if not expressions or not all(is_scalar(part) and same_value(part, last) for part in node.args):
        return node
    return first if first.op == "number" else last


def _is_worked_out(node: Node) -> bool:
    return node.op != "number" and is_scalar(node) and not names_in(node)


def _function(node: Node) -> str | None:
    """What an equation tells the value of: `f` in `f(x)`, `f(2)`, the length `|AB|`, the point `(x, y)`."""
    if node.op == "bracket" and all(part.op == "name" for part in node.args):
        return f"({', '.join(part.text for part in node.args)})"
    if node.op == "abs" and node.args[0].op == "name" and len(node.args[0].text) > 1 and node.args[0].text.isupper():
        return f"|{node.args[0].text}|"
    if node.op != "mul" or node.text or node.args[0].op != "name":
        return None
    name, argument = node.args[0].text, node.args[1]
    if argument.op == "name":
        return name
    return f"{name}({argument.value})" if argument.op == "number" and name in _FUNCTION_NAMES else None


def _canonical(node: Node) -> Node:
    """Several values, however they are joined, as a list; a column as the vector that it is."""
    if node.op == "bracket" and node.text == "[]" and node.args and all(item.op == "bracket" for item in node.args):
        return Node("matrix", tuple(Node("row", item.args) for item in node.args))
    if node.op == "set" or _has_sign(node) or (node.op == "list" and not _is_set_of_reals(node)):
        values = items_of(node)
        return Node("list", values) if len(values) > 1 or node.op == "list" else Node("set", values)
    return node


def _same(left: Node, right: Node) -> bool:
    (label, left_value), (other_label, right_value) = unlabelled(left), unlabelled(right)
    if label is not None and other_label is not None:
        if label == other_label:
            return same(left_value, right_value)
        return _same_equation(left, right)
    if left_value is not left or right_value is not right:
        return same(left_value, right_value) or _same_equation(left, right) or _same_set(left, right)
    if is_scalar(left) and is_scalar(right):
        if not names_in(left) and not names_in(right):
            return equal_numbers(left, right)
        return same_value(left, right)
    pair = {left.op, right.op}
    if pair == {"word"}:
        return left.text == right.text
    if pair <= {"list", "set"}:
        return _same_items(left.args, right.args)
    if "set" in pair and len(left.args if left.op == "set" else right.args) == 1 and pair & _SCALARS:
        return _same_items(*(node.args if node.op == "set" else (node,) for node in (left, right)))
    if pair == {"list", "bracket"}:
        brackets, listed = (left, right) if left.op == "bracket" else (right, left)
        # Python's list of three is a list; a pair in brackets may be an interval or a point.
        return brackets.text == "[]" and len(brackets.args) > 2 and _same_items(brackets.args, listed.args)
    if pair == {"bracket"}:
        return left.text == right.text and _same_row(left.args, right.args)
    if pair == {"matrix", "bracket"}:
        matrix, vector = (left, right) if left.op == "matrix" else (right, left)
        return vector.text == "()" and _same_row(_vector(matrix), vector.args)
    if pair in ({"matrix"}, {"row"}, {"ratio"}, {"base"}):
        return _same_row(left.args, right.args)
    return _same_equation(left, right) or _same_set(left, right)


def _vector(matrix: Node) -> Sequence[Node]:
    if len(matrix.args) == 1:
        return matrix.args[0].args
    if all(len(row.args) == 1 for row in matrix.args):
        return [row.args[0] for row in matrix.args]
    raise NoValueError("a matrix is no vector")


def _same_row(left: Sequence[Node], right: Sequence[Node]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _same_items(left: Sequence[Node], right: Sequence[Node]) -> bool:
    """Whether two lists have the same values, in any order."""
    if len(left) != len(right) or len(left) > MAX_ITEMS:
        return False
    rest = list(right)
    for item in left:
        found = next((index for index, other in enumerate(rest) if same(item, other)), None)
        if found is None:
            return False
        del rest[found]
    return True


# Relations


def _same_equation(left: Node, right: Node) -> bool:
    return left.op == right.op == "relation" and _same_relation(left, right)


def _same_relation(left: Node, right: Node) -> bool:
    """Whether two equations or inequalities are the same up to a factor and the side that things stand on."""
    if len(left.args) != 2 or len(right.args) != 2 or not all(map(is_scalar, (*left.args, *right.args))):
        return len(left.args) == len(right.args) and left.text == right.text and _same_row(left.args, right.args)
    signs = left.text, right.text
    one, other = (Node("add", (node.args[0], Node("neg", (node.args[1],)))) for node in (left, right))
    if names_in(one) != names_in(other) or not names_in(one):
        return False
    ratio = _ratio(one, other)
    if ratio is None:
        return False
    scaled = same_value(one, Node("mul", (Node("number", value=ratio), other)))
    return scaled and (signs[0] == signs[1] if ratio > 0 else signs[0] == _FLIPPED.get(signs[1]))


def _ratio(one: Node, other: Node) -> Fraction | None:
    """The simple number that one expression is a multiple of the other by, as a first point shows it."""
    for point in sample_points(names_in(one)):
        values = [exact(_at(node, point)) for node in (one, other)]
        if values[0] is None or values[1] is None or not values[0] or not values[1]:
            continue
        return values[0] / values[1]
    return Fraction(1)


def _at(node: Node, point: Any) -> Node:
    if node.op == "name" and node.text in point:
        return Node("number", value=point[node.text])
    return Node(node.op, tuple(_at(part, point) for part in node.args), node.text, node.value, node.places)


# Sets of real numbers


def _is_set_of_reals(node: Node) -> bool:
    return (
        node.op == "list"
        and node.text in ("or", "and")
        and all(item.op == "relation" for item in node.args)
        and any(item.text != "=" for item in node.args)
    )


def _same_set(left: Node, right: Node) -> bool:
    """Whether two sets of real numbers are the same; false for what is none."""
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
    if node.op in ("union", "intersection", "difference") or _is_set_of_reals(node):
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
        left, right, sign = right, left, _FLIPPED.get(sign, "")
    absolute = left.op == "abs"
    variable = left.args[0] if absolute else left
    if variable.op != "name" or not names_in(variable) or sign not in _FLIPPED:
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
