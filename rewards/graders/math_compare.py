r"""Whether two readings of mathematics say the same: numbers, expressions, lists, sets, intervals, vectors, relations.

Example: `-2 \le x \le 7` says what `[-2, 7]` says; `x < 1 \text{ or } x > 3` what `(3, \infty) \cup (-\infty, 1)` says.

Lists and sets have no order, brackets have. Sets of real numbers are compared at their ends, between and beyond them.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import mpmath

from rewards.graders.math_nodes import SCALARS, Node, is_scalar
from rewards.graders.math_sets import FLIPPED, is_set_of_reals, same_set
from rewards.graders.math_value import NoValueError, exact, has_decimal, names_in, number_of, same_value, sample_points
from rewards.graders.notation import word_set

RELATIVE_TOLERANCE = 1e-6
# What calculating with floats leaves of a whole number.
NOISE = 1e-9
MAX_ITEMS = 40
# Before a number in brackets these are functions, other letters factors.
_FUNCTION_NAMES = word_set("f g h p q u v F G H P Q")

Value = Any  # Fraction, or mpmath's number


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
    if label not in names_in(value) and all(_leads_to(step, value) for step in steps):
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


def _leads_to(step: Node, value: Node) -> bool:
    """Whether a step is a calculation; of two fractions that are said to be equal, whether they are."""
    if step.op == "number" or not is_scalar(step) or names_in(step):
        return False
    return not (_is_fraction(step) and _is_fraction(value)) or same_value(step, value)


def _is_fraction(node: Node) -> bool:
    return node.op == "div" and all(part.op == "number" for part in node.args)


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
    """Several values, however they are joined, as a list; `3/5` or `0.6`, which is one value, as that."""
    if node.op == "bracket" and node.text == "[]" and node.args and all(item.op == "bracket" for item in node.args):
        return Node("matrix", tuple(Node("row", item.args) for item in node.args))
    if (joined := _elements(node)) is not None:
        return Node("list", joined)
    if node.op == "list" and node.text == "or" and all(is_scalar(i) and not names_in(i) for i in node.args):
        first, *rest = node.args
        if all(equal_numbers(first, item) for item in rest):
            return first
    if node.op == "set" or _has_sign(node) or (node.op == "list" and not is_set_of_reals(node)):
        values = items_of(node)
        return Node("list", values, node.text) if len(values) > 1 or node.op == "list" else Node("set", values)
    return node


def _elements(node: Node) -> tuple[Node, ...] | None:
    """The elements of a union of sets that name theirs, each once; `None` for what is none."""
    if node.op != "union" or any(part.op not in ("set", "union") for part in node.args):
        return None
    found: list[Node] = []
    for part in node.args:
        items = items_of(part) if part.op == "set" else _elements(part)
        if items is None:
            return None
        found += [item for item in items if not any(same(item, other) for other in found)]
    return tuple(found)


def _same(left: Node, right: Node) -> bool:
    (label, left_value), (other_label, right_value) = unlabelled(left), unlabelled(right)
    if label is not None and other_label is not None:
        if label == other_label:
            return same(left_value, right_value)
        return _same_equation(left, right)
    if left_value is not left or right_value is not right:
        return same(left_value, right_value) or _same_equation(left, right) or same_set(left, right)
    if is_scalar(left) and is_scalar(right):
        if not names_in(left) and not names_in(right):
            return equal_numbers(left, right)
        return same_value(left, right)
    pair = {left.op, right.op}
    if pair == {"word"}:
        return left.text == right.text
    if pair <= {"list", "set"}:
        if _of_either(left) != _of_either(right):
            return False
        return _same_items(left.args, right.args) or _same_items(_roots(left, right), _roots(right, left))
    if "set" in pair and len(left.args if left.op == "set" else right.args) == 1 and pair & SCALARS:
        return _same_items(*(node.args if node.op == "set" else (node,) for node in (left, right)))
    if pair == {"list", "bracket"}:
        brackets, listed = (left, right) if left.op == "bracket" else (right, left)
        # Python's list of three is a list; a pair in brackets may be an interval or a point.
        if brackets.text == "[]" and len(brackets.args) > 2 and _same_items(brackets.args, listed.args):
            return True
        return same_set(left, right)
    if pair == {"bracket"}:
        return left.text == right.text and _same_row(left.args, right.args)
    if pair == {"matrix", "bracket"}:
        matrix, vector = (left, right) if left.op == "matrix" else (right, left)
        return vector.text == "()" and _same_row(_vector(matrix), vector.args)
    if pair in ({"matrix"}, {"row"}, {"ratio"}, {"base"}):
        return _same_row(left.args, right.args)
    return _same_equation(left, right) or same_set(left, right)


def _vector(matrix: Node) -> Sequence[Node]:
    if len(matrix.args) == 1:
        return matrix.args[0].args
    if all(len(row.args) == 1 for row in matrix.args):
        return [row.args[0] for row in matrix.args]
    raise NoValueError("a matrix is no vector")


def _roots(node: Node, other: Node) -> Sequence[Node]:
    """The values of `x_1 = 2, x_2 = 5` where the other list numbers nothing; of any other list its items."""
    labels = [unlabelled(item)[0] or "" for item in node.args]
    numbered = len(labels) > 1 and sorted(labels) == [f"{labels[0][0:1]}_{i + 1}" for i in range(len(labels))]
    if not numbered or any("_" in (unlabelled(item)[0] or "") for item in other.args):
        return node.args
    return [unlabelled(item)[1] for item in node.args]


def _of_either(node: Node) -> bool:
    """Whether a list tells one of several things: `x = 2 or y = 3`."""
    labels = {unlabelled(item)[0] for item in node.args}
    return node.text == "or" and len(labels) == len(node.args) > 1 and None not in labels


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
    return scaled and (signs[0] == signs[1] if ratio > 0 else signs[0] == FLIPPED.get(signs[1]))


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
