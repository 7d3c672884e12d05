"""The last step of a calculation in a sentence: what comes out of it, where nothing else is said.

Example: `So in total Mark has 28 + 7 = 35 plants in his garden.` says `35 plants`. That it is the result of the
calculation before it is checked: of `half of 28 = 14 + 7` and `x = 5 apples or 3 + 4 = 8` nothing is taken.
"""

import re

from rewards.graders.math_compare import equal_numbers
from rewards.graders.math_nodes import Node
from rewards.graders.math_parse import parse_math
from rewards.graders.math_tokens import MathSyntaxError
from rewards.graders.math_value import names_in
from rewards.graders.notation import as_latex, word_set

MAX_STEP_CHARS = 300

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)"
_MONEY = r"[$€£]?\s?"
_RESULT = re.compile(rf"=\s*(?P<value>{_MONEY}-?{_MONEY}{_NUMBER}%?)(?P<after>(?:/?\s?[A-Za-z][A-Za-z'\s/-]*)?)[.!]*$")
_WORDS = r"(?:\s?[A-Za-z]{2,}(?:\s[A-Za-z]+){0,3})?"
_OPERAND = rf"\(*{_MONEY}{_NUMBER}%?{_WORDS}\)*"
_CALCULATION = re.compile(
    rf"(?<![\w.,$(/*+-]){_OPERAND}(?:\s*(?:[-+*/×÷–−]|\bx(?![a-z])|\\times\b|\\cdot\b)\s*{_OPERAND})+\s*$"
)
_TIMES = re.compile(r"(?<=[\d)])\s*\bx\s*(?=[\d.(])")
_NAMED = re.compile(r"[A-Za-z]{2,}(?:\s[A-Za-z]+)*|[$€£]")
# Words behind a result that make another number of it, or take it back.
_OTHERWISE = word_set(
    "not no never isn't wasn't aren't wrong incorrect false or either maybe perhaps but instead rather however half "
    "actually twice thrice double triple squared cubed factorial dozen dozens hundred thousand million billion thirds "
    "tenths if unless except minus plus divided multiplied percent hundredths while whereas others rest then"
)
_TIMES_AS = re.compile(r"^\s*times\s+(?:as|the|more|that|what|less|larger|longer|a)\b")
# What is denied, or is said of more than the calculation: "half of 3 + 4", "less than 3 + 4".
_DENIED = re.compile(
    r"\b(?:not|never|\w+n't|wrong|incorrect|cannot|no)\b[^,;]*$"
    r"|\b(?:half|twice|thrice|double|triple|third|quarter|square|cube|root|factorial|reciprocal|inverse|"
    r"opposite|negative)(?: of)?(?: the)?\s*$|\b(?:than|least|most|about|around|nearly|almost|over|under|minus|plus|"
    r"times|by|between|log|ln|sin|cos|tan|if|unless|either|or|per|mod|modulo|except)\s*$",
    re.IGNORECASE,
)


def worked_out(sentence: str) -> str | None:
    """Return the result that a sentence ends in, with its unit, where the calculation before it comes to that.

    Args:
        sentence (`str`): prose with an equation: `12 eggs / 2 = 6 eggs for each of them`.
    """
    match = _RESULT.search(as_latex(sentence)[-MAX_STEP_CHARS:])
    if match is None:
        return None
    left, after = match.string[: match.start()].rstrip(), match.group("after")
    calculation = _CALCULATION.search(left)
    if calculation is None or _DENIED.search(left[: calculation.start()]):
        return None
    if set(re.findall(r"[a-z']+", after.lower())) & _OTHERWISE or _TIMES_AS.search(after):
        return None
    value = match.group("value")
    steps = _number(_NAMED.sub(" ", _TIMES.sub("*", calculation.group()).replace("–", "-")))
    result = _number(_NAMED.sub(" ", value))
    return value if steps is not None and result is not None and equal_numbers(steps, result) else None


def _number(text: str) -> Node | None:
    try:
        node = parse_math(text)
    except (MathSyntaxError, RecursionError, ValueError):
        return None
    return None if names_in(node) else node
