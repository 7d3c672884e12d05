"""When an output or a result is the expected one.

A program's output is compared by lines and, in a line, token by token. A token without a point or exponent is what it
is: `1000000007` is not `1000000006`, `0110` is not `110`, `1e3` is not `1000`, though `5.0` is `5`. Where the expected
token is a decimal number, the printed one may be another number within 1e-6, as DeepCoder's and most judges' checkers
have it.

Part of the program of `harness.py`.
"""

import decimal
import math
import re
from fractions import Fraction
from typing import Any

TOLERANCE = 1e-6
# An absolute error of 1e-6 says nothing about a number of this size or less.
SMALL = 1e-3

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_EXACT = re.compile(r"[+-]?\d+", re.ASCII)
_LAID_OUT = re.compile(r"^[ \t]|[ \t]{2}", re.MULTILINE)


def same_output(printed: str, expected: str) -> bool:
    """Whether a program printed what it should.

    Blank lines and space at line ends do not count. Space inside a line counts where the expected output itself is laid
    out with it (a line starts with space, or has two in a row) and where the line is not all numbers.

    Args:
        printed (`str`): its standard output.
        expected (`str`): of the test.
    """
    if printed == expected:
        return True
    left, right = _lines(printed), _lines(expected)
    if len(left) != len(right):
        return False
    laid_out = _LAID_OUT.search("\n".join(right)) is not None
    return all(a == b or _same_line(a, b, laid_out) for a, b in zip(left, right, strict=True))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _same_line(printed: str, expected: str, laid_out: bool) -> bool:
    left, right = printed.split(), expected.split()
    if len(left) != len(right) or not all(map(same_token, left, right)):
        return False
    return not laid_out or all(_NUMBER.fullmatch(token) for token in right)


def same_token(printed: str, expected: str) -> bool:
    """Whether one token of an output is the expected one."""
    if printed == expected:
        return True
    if not (_NUMBER.fullmatch(printed) and _NUMBER.fullmatch(expected)):
        return False
    if _EXACT.fullmatch(expected):  # `5.0` is 5 to the digit; `5.0000001`, `5e0` and `05` are not
        whole, point, rest = printed.partition(".")
        return whole == expected and point == "." and not rest.strip("0")
    if len(printed) > 400 or len(expected) > 400:
        return False
    value, wanted = Fraction(printed), Fraction(expected)
    if _EXACT.fullmatch(printed) and wanted.denominator == 1:
        return value == wanted
    return abs(value - wanted) <= _allowed(wanted, _half_a_unit(expected))


def _allowed(wanted: Fraction, half_a_unit: Fraction) -> Fraction:
    size, tolerance = abs(wanted), Fraction(1, 10**6)
    if size == 0 or size >= Fraction(1, 1000):
        return tolerance * max(Fraction(1), size)
    return max(tolerance * size, min(tolerance, half_a_unit))


def _half_a_unit(token: str) -> Fraction:
    """Half of what the last digit of a decimal number counts."""
    exponent = decimal.Decimal(token).as_tuple().exponent
    return Fraction(10) ** int(exponent) / 2


def same_result(result: Any, expected: Any) -> bool:
    """Whether a function returned what a test in JSON expects.

    JSON has no tuples, so a tuple is as good as a list, and keys of an object may be numbers. A float has 1e-6 where
    the expected number is one too; integers and texts are what they are, and truth values equal 0 and 1 as in Python.

    Args:
        result (`Any`): from the solution, in built-in types.
        expected (`Any`): from JSON.
    """
    if isinstance(expected, (list, tuple)):
        if not isinstance(result, (list, tuple)) or len(result) != len(expected):
            return False
        return all(map(same_result, result, expected))
    if isinstance(expected, dict):
        if not isinstance(result, dict) or len(result) != len(expected):
            return False
        named = {str(key): value for key, value in result.items()}
        return all(str(key) in named and same_result(named[str(key)], value) for key, value in expected.items())
    if isinstance(expected, float) and isinstance(result, (int, float)) and not isinstance(result, bool):
        return _same_float(result, expected)
    return bool(result == expected)


def _same_float(result: float, expected: float) -> bool:
    if result == expected or (result != result and expected != expected):
        return True
    if isinstance(result, int) and (expected.is_integer() or abs(result) >= 2**53):
        return False
    if not (math.isfinite(expected) and math.isfinite(result)):
        return False
    absolute = TOLERANCE if expected == 0 or abs(expected) >= SMALL else 0.0
    return math.isclose(result, expected, rel_tol=TOLERANCE, abs_tol=absolute)
