"""Values of expressions: exact where they are rational, else at sample points with many digits.

Two expressions are equal when they have the same value at every point where they are real: a polynomial identity that
holds at eight random points or more of 40 digits holds. No simplification is tried, so no rule of one can be wrong, and
a comparison takes a millisecond. Everything is bounded: an expression that would take long has no value.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import ceil, comb, factorial, floor, gcd, lcm
from typing import Any

import mpmath

from rewards.graders.math_nodes import Node
from rewards.graders.notation import word_set

MAX_BITS = 20_000
MAX_FACTORIAL = 1_000
# Digits beyond those that the largest and smallest intermediate results take up, and how many of them must agree.
GUARD_DIGITS = 40
MAX_MAGNITUDE = 1_000
_POINTS = 8
_MOST_MIXED = 15

Point = Mapping[str, Fraction]
Number = Any  # mpmath's mpf or mpc; it has no types


class NoValueError(ValueError):
    """An expression without a value here: not arithmetic, undefined, or too costly."""


def names_in(node: Node) -> frozenset[str]:
    """Return the variables of an expression; the constants e, i and pi are none."""
    if node.op == "name":
        return frozenset() if node.text in ("pi", "e", "i", "infty") else frozenset({node.text})
    return frozenset().union(*(names_in(part) for part in node.args))


def has_decimal(node: Node) -> bool:
    """Whether some number of an expression is written with a decimal point."""
    return bool(node.places) or any(map(has_decimal, node.args))


def exact(node: Node) -> Fraction | None:
    """Return the value of an expression without variables, where it is rational and not costly; never raises."""
    try:
        return _rational(node)
    except (NoValueError, ZeroDivisionError, OverflowError):
        return None


def _rational(node: Node) -> Fraction:
    if node.op == "number" and node.value is not None:
        return node.value
    if node.op not in ("add", "mul", "div", "neg", "pow", "fact", "binom", "abs", "root", "call"):
        raise NoValueError(node.op)
    if node.op == "call" and node.text not in WHOLE_FUNCTIONS:
        raise NoValueError(node.text)
    values = [_rational(part) for part in node.args]
    left, right = values[0], values[-1]
    match node.op:
        case "call":
            result = Fraction(WHOLE_FUNCTIONS[node.text](*values))
        case "add":
            result = left + right
        case "mul":
            result = left * right
        case "div":
            result = left / right
        case "neg":
            result = -left
        case "abs":
            result = abs(left)
        case "pow":
            result = _power(left, right)
        case "root":
            result = _root(left, right)
        case "fact":
            result = Fraction(factorial(_small(left)))
        case _:
            result = Fraction(comb(_small(left), _small(right)))
    if result.numerator.bit_length() + result.denominator.bit_length() > MAX_BITS:
        raise NoValueError("too large")
    return result


def _of_integers(function: Callable[..., int]) -> Callable[..., int]:
    def apply(*values: Fraction) -> int:
        if any(value.denominator != 1 for value in values):
            raise NoValueError("of whole numbers only")
        return function(*(value.numerator for value in values))

    return apply


# Functions of rational numbers whose values are rational.
WHOLE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "floor": floor,
    "ceil": ceil,
    "min": min,
    "max": max,
    "gcd": _of_integers(gcd),
    "lcm": _of_integers(lcm),
}


def _small(value: Fraction) -> int:
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise NoValueError("no small whole number")
    return value.numerator


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        return _root(_power(base, Fraction(exponent.numerator)), Fraction(exponent.denominator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > MAX_BITS:
        raise NoValueError("too large")
    if base == 0 and exponent <= 0:
        raise NoValueError("a power of zero")
    return Fraction(base**exponent.numerator)


def _root(value: Fraction, index: Fraction) -> Fraction:
    """The root of a perfect power; the root of anything else is not rational."""
    if index.denominator != 1 or not 1 <= index <= 64:
        raise NoValueError("an unusual root")
    sign = -1 if value < 0 else 1
    if sign < 0 and index % 2 == 0:
        raise NoValueError("not real")
    parts = [_integer_root(abs(part), index.numerator) for part in (value.numerator, value.denominator)]
    return sign * Fraction(*parts)


def _integer_root(value: int, index: int) -> int:
    low, high = 0, 1 << (value.bit_length() // index + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**index <= value else (low, middle - 1)
    if low**index != value:
        raise NoValueError("not rational")
    return low


def same_value(left: Node, right: Node) -> bool:
    """Whether two expressions are equal, as functions of their variables; never raises.

    Decimals are what they say: `0.33x` is not `x/3`. Numbers without variables are compared by the caller, who knows
    what tolerance they have.
    """
    one, other = exact(left), exact(right)
    if one is not None and other is not None:
        return one == other
    names = names_in(left) | names_in(right)
    compared = 0
    for point in sample_points(names, whole=_jumps(left) or _jumps(right)):
        try:
            verdict = _same_at(left, right, point)
        except (NoValueError, ZeroDivisionError, OverflowError, ValueError, TypeError):
            verdict = None
        if verdict is False:
            return False
        compared += verdict is True
    return compared >= (1 if not names else 3)


def sample_points(names: frozenset[str], *, whole: bool = False) -> Iterator[Point]:
    """Yield the points at which expressions are compared: positive ones, of every choice of signs, near and far ones.

    Args:
        names (`frozenset[str]`): the variables.
        whole (`bool`): end with whole numbers, where functions that jump do so.
    """
    ordered = sorted(names)
    rng = random.Random(f"points of {ordered}")
    mixed = min(max(_POINTS // 2, 2 ** len(ordered) - 1), _MOST_MIXED)
    for index in range(_POINTS // 2 + mixed if ordered else 1):
        signs = index - _POINTS // 2 + 1  # from 1 on, a binary digit for each variable
        yield {
            name: Fraction(rng.randint(101, 997), rng.choice([89, 97, 101, 103, 107, 109, 113]))
            * (-1 if signs > 0 and signs >> place & 1 else 1)
            for place, name in enumerate(ordered)
        }
    for scale in (Fraction(1, 13), 7) * (2 if ordered else 0):  # what `|x - 1|` and `|x - 20|` are beyond all of these
        yield {name: Fraction(rng.randint(101, 997), 97) * scale * rng.choice((-1, 1)) for name in ordered}
    for _ in range(_POINTS // 2 if ordered and whole else 0):
        yield {name: Fraction(rng.randint(3, 997)) for name in ordered}


def _jumps(node: Node) -> bool:
    return node.text in ("floor", "ceil") or any(map(_jumps, node.args))


def _same_at(left: Node, right: Node, point: Point) -> bool | None:
    """Whether two expressions have the same value; `None` where neither is real and neither mentions i."""
    values, magnitude, digits = _with_guard((left, right), point)
    imaginary = _mentions_i(left) or _mentions_i(right)
    with mpmath.workdps(digits):
        if not imaginary:
            real = [_is_real(value, digits - magnitude) for value in values]
            if real == [False, False]:
                return None
            if real != [True, True]:
                return False
        return bool(abs(values[0] - values[1]) <= mpmath.mpf(10) ** (magnitude - digits + 8))


def _mentions_i(node: Node) -> bool:
    return (node.op == "name" and node.text == "i") or any(map(_mentions_i, node.args))


def _is_real(value: Number, digits: int) -> bool:
    return bool(abs(mpmath.im(value)) <= mpmath.mpf(10) ** (8 - digits))


def number_of(node: Node) -> Number:
    """Return the real value of an expression without variables, as mpmath's number of 40 digits at least.

    Raises:
        NoValueError: it has none.
    """
    try:
        values, magnitude, digits = _with_guard((node,), {})
        with mpmath.workdps(digits):
            if not _is_real(values[0], digits - magnitude):
                raise NoValueError("not real")
            return mpmath.re(values[0])
    except (ZeroDivisionError, OverflowError, TypeError) as error:
        raise NoValueError(str(error)) from error


def _with_guard(nodes: Sequence[Node], point: Point) -> tuple[list[Number], int, int]:
    """The values with as many digits as their intermediate results need, how many those are, and all digits."""
    rough = _Evaluation(point, 30)
    for node in nodes:
        rough.value(node)
    digits = GUARD_DIGITS + 2 * rough.magnitude
    fine = _Evaluation(point, digits)
    return [fine.value(node) for node in nodes], rough.magnitude, digits


class _Evaluation:
    """Evaluates with some digits, and remembers how many the largest and smallest results take up."""

    def __init__(self, point: Point, digits: int) -> None:
        self.point, self.digits, self.magnitude = point, digits, 1

    def value(self, node: Node) -> Number:
        with mpmath.workdps(self.digits):
            return self._value(node)

    def _value(self, node: Node) -> Number:
        if node.op == "number" and node.value is not None:
            return self._noted(_quotient(node.value))
        if node.op == "name":
            return self._name(node.text)
        arguments = [self._value(part) for part in node.args]
        try:
            function = _OPERATIONS[f"{node.op} {node.text}" if node.op == "call" else node.op]
        except KeyError:
            raise NoValueError(node.op) from None
        return self._noted(function(*arguments))

    def _name(self, text: str) -> Number:
        if text in self.point:
            return _quotient(self.point[text])
        constant = {"pi": mpmath.pi, "e": mpmath.e, "i": mpmath.j}.get(text)
        if constant is None:
            raise NoValueError(text)
        return constant * 1

    def _noted(self, value: Number) -> Number:
        if mpmath.isnan(value) or mpmath.isinf(value):
            raise NoValueError("not finite")
        if value:
            self.magnitude = max(self.magnitude, _magnitude(value))
        return value


def _magnitude(value: Number) -> int:
    """Decimal digits of a value before or after its point."""
    size = abs(int(mpmath.mag(value)))
    if size > MAX_MAGNITUDE * 4:
        raise NoValueError("too large or too small")
    return int(size * 0.302) + 1


def _quotient(value: Fraction) -> Number:
    return mpmath.mpf(value.numerator) / value.denominator


def _mp_power(base: Number, exponent: Number) -> Number:
    if not base:
        if mpmath.re(exponent) <= 0:
            raise NoValueError("a power of zero")
        return mpmath.mpf(0)
    if abs(exponent) * (abs(mpmath.mag(base)) + 1) > MAX_MAGNITUDE * 4:
        raise NoValueError("too large a power")
    return mpmath.power(base, exponent)


def _mp_root(value: Number, index: Number) -> Number:
    """The principal root; of a negative real number the real one where the index is odd."""
    if not mpmath.im(value) and mpmath.re(value) < 0 and mpmath.isint(index) and int(mpmath.re(index)) % 2:
        return -_mp_power(-value, 1 / index)
    return _mp_power(value, 1 / index)


def _mp_gamma(value: Number) -> Number:
    if abs(value) > MAX_FACTORIAL:
        raise NoValueError("too large a factorial")
    return mpmath.gamma(value + 1)


def _mp_exp(value: Number) -> Number:
    return _mp_power(mpmath.e * 1, value)


def _real_only(function: Any) -> Any:
    def apply(*values: Number) -> Number:
        if any(mpmath.im(value) for value in values):
            raise NoValueError("of real numbers only")
        return function(*(mpmath.re(value) for value in values))

    return apply


def _bounded(function: Any) -> Any:
    """A function whose argument is reduced first, which takes long when it is huge."""

    def apply(value: Number) -> Number:
        if abs(value) > 10**9:
            raise NoValueError("too large an argument")
        return function(value)

    return apply


@cache
def _unknown_base() -> Number:
    """`log` is to the base e in one book and to the base 10 in another: to an unusual one, it is only itself."""
    return mpmath.mpf("7.319275018362917")


_OPERATIONS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "pow": _mp_power,
    "root": _mp_root,
    "fact": _mp_gamma,
    "binom": lambda a, b: _mp_gamma(a) / (_mp_gamma(b) * _mp_gamma(a - b)),
    "deg": lambda a: a * mpmath.pi / 180,
    "call log": lambda a: mpmath.log(a) / mpmath.log(_unknown_base()),
    "call log_": lambda a, base: mpmath.log(a) / mpmath.log(base),
    "call ln": mpmath.log,
    "call lg": lambda a: mpmath.log(a) / mpmath.log(10),
    "call exp": _mp_exp,
    "call abs": abs,
    "call floor": _real_only(mpmath.floor),
    "call ceil": _real_only(mpmath.ceil),
    "call min": _real_only(min),
    "call max": _real_only(max),
    "call factorial": _mp_gamma,
    **{
        f"call {name}": _bounded(getattr(mpmath, name))
        for name in sorted(word_set("sin cos tan cot sec csc sinh cosh tanh"))
    },
    **{f"call arc{name}": getattr(mpmath, f"a{name}") for name in sorted(word_set("sin cos tan"))},
    **{f"call a{name}": getattr(mpmath, f"a{name}") for name in sorted(word_set("sin cos tan"))},
}
