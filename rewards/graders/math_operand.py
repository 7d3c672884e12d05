r"""What a box is a part of: a sign, a factor, a power or a function beside it makes another value of it.

Example: `x = -\boxed{7}` says `-7`, and `10^{\boxed{7}}` and `1 + \boxed{7}` say the formula; `x = \boxed{7}`,
`{\bf\boxed{7}}` and `\boxed{7}^\circ` say what is in the box.

The line around a box is read as tokens. What counts are the two next to it that are more than dress: the box is alone
where a statement ends on both sides, at the end of the line, a relation, a comma, words. Between the delimiters of a
formula things side by side are factors; in prose `3 \boxed{7}` is not, and a bullet or a dash is no minus.
"""

import re
from dataclasses import dataclass
from typing import Literal

from rewards.graders.math_tokens import FUNCTIONS, GREEK

Kind = Literal["dress", "end", "open", "close", "operator", "operand"]

MAX_BESIDE = 200

_COMMANDS = FUNCTIONS | GREEK | {"sqrt", "cbrt", "frac", "dfrac", "tfrac", "cfrac", "binom", "dbinom", "pi", "infty"}
_COMMANDS |= {"overline", "bar", "int", "sum", "prod", "lim", "lfloor", "lceil", "rfloor", "rceil", "over", "partial"}
_STYLE = r"\\(?:math(?:bf|rm|it|sf)|text(?:bf|it|rm)?|bm|boldsymbol|underline|left|right|(?:text)?color\s*\{\w+\})"
_TOKEN = re.compile(
    rf"""
    (?P<dress>\s+|~|\\[,;:!\ ]|\\(?:displaystyle|textstyle|bf|it|rm|large|Large|huge|Huge|left\.|right\.)(?![a-zA-Z]))
    |(?P<end>[=-]+>|[=:,;&⇒→≈≤≥∈∴]|\\[$%()\[\]]|[$%°]|\\\\|\.(?!\d)|[?"]
      |\\(?:text(?:bf|it|rm)?|mbox|mathrm|begin|end)\s*\{{[^{{}}\\]*\}}|\^\s*\{{?\s*(?:\\circ|°)\s*\}}?|[A-Za-z]{{2,}}|[^\x00-⃿])
    |(?P<operator>[-+*/^_<>|`#!√±×÷·−–≠]|\\(?:cdot|times|div|pm|mp|neq?|not|lt|gt|cup|cap|setminus)(?![a-zA-Z]))
    |(?P<open>(?:{_STYLE}\s*)?\\?[{{(\[])
    |(?P<close>(?:\\right\s*)?\\?[}})\]])
    |(?P<operand>\d[\d.,]*(?<!,)|\.\d+|\\(?:{"|".join(sorted(_COMMANDS, key=len, reverse=True))})(?![a-zA-Z])|[a-zA-Zπ])
    |(?P<other>\\[a-zA-Z]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DELIMITER = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
# Signs that are dress where they stand on both sides, and on the left without a value before them.
_MARKS = frozenset("*_`|>#+")
_DASHES = frozenset("-−–")
_RELATIONS = frozenset(["<", ">", "≠", r"\ne", r"\neq", r"\not", r"\lt", r"\gt"])
_VARIABLES = frozenset("abeiknpqrtxyzπ")  # the other letters stand for units
# Words right before a box that make something else of it.
_MADE_NEGATIVE = re.compile(r"\b(?:minus|negative)[\s$\\(}]*$", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:\b(?:not|never|than|twice|thrice|except)|n't|\b(?:half|third|quarter|double|triple|square|cube|root|opposite|"
    r"reciprocal|inverse) of)[\s$\\(}]*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Token:
    kind: Kind
    text: str


def with_operands(text: str, start: int, end: int, content: str) -> str:
    """Return what a box says in its place: its content, or the formula or the denial that it is a part of.

    Args:
        text (`str`): all of it.
        start (`int`): of the box in the text.
        end (`int`): behind the box.
        content (`str`): of the box.
    """
    before = text[max(0, start - MAX_BESIDE) : start].rpartition("\n")[2]
    behind = text[end : end + MAX_BESIDE].partition("\n")[0]
    left, right = _tokens(before), _tokens(behind)
    if not _alone(left, right, formal=_in_formula(text[max(0, start - 2_000) : start])):
        # "1[7]" looks like 17, "i[7]" and "i[x + 7]" are products.
        factor = (bool(left) and left[-1].text.isalpha()) or re.search(r"[-+]", content)
        inner = f"({content})" if factor and content[:1] not in "([{\\" else content
        return _formula(left, inner, right)
    if _MADE_NEGATIVE.search(before):
        return f"-({content})"
    return f"not {content}" if _DENIED.search(before) else content


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        found.append(_Token("end" if kind == "other" else kind, match.group()))  # type: ignore[arg-type]
    return found


def _in_formula(before: str) -> bool:
    r"""Whether a formula is open at the end of a text: a `$` in its paragraph, `\(` or `\[`."""
    signs = [match.group() for match in _DELIMITER.finditer(before.rpartition("\n\n")[2])]
    return signs.count("$") % 2 == 1 or (bool(signs) and signs[-1] in (r"\(", r"\["))


def _formula(left: list[_Token], inner: str, right: list[_Token]) -> str:
    """The statement that a box is a part of, with what the box holds in its place."""
    first = next((i + 1 for i in range(len(left) - 1, -1, -1) if left[i].kind == "end"), 0)
    last = next((i for i, token in enumerate(right) if token.kind == "end"), len(right))
    parts = [token.text for token in left[first:]], [token.text for token in right[:last]]
    return f"{''.join(parts[0])}{inner}{''.join(parts[1])}".strip()


def _alone(left: list[_Token], right: list[_Token], *, formal: bool) -> bool:
    """Whether nothing beside a box makes something else of it."""
    left, right = left[::-1], right[:]
    spaced_left = spaced_right = False
    while True:
        spaced_left |= _undressed(left)
        spaced_right |= _undressed(right)
        pair = left[:1], right[:1]
        if not (left and right) or not (
            (left[0].kind, right[0].kind) == ("open", "close") or (left[0].text in _MARKS and pair[0] == pair[1])
        ):
            break
        del left[0], right[0]
        spaced_left = spaced_right = False
    loose_left, loose_right = spaced_left and not formal, spaced_right and not formal
    return _ends_before(left, loose=loose_left) and _ends_behind(right, loose=loose_right, formal=formal)


def _undressed(tokens: list[_Token]) -> bool:
    """Take what is only dress from the front; whether there was any."""
    count = next((i for i, token in enumerate(tokens) if token.kind != "dress"), len(tokens))
    del tokens[:count]
    return count > 0


def _ends_before(left: list[_Token], *, loose: bool) -> bool:
    """Whether a statement begins behind the last of some tokens, the nearest first; `loose` is prose with a space."""
    if not left or left[0].kind in ("end", "open"):
        return True
    if left[0].kind != "operator":
        return loose and not left[0].text.startswith("\\")
    sign, *rest = left
    _undressed(rest)
    if rest and rest[0].kind in ("operand", "close"):
        return False
    return sign.text in _MARKS or (sign.text in _DASHES and loose)


def _ends_behind(right: list[_Token], *, loose: bool, formal: bool) -> bool:
    """Whether a statement ends before the first of some tokens."""
    if not right or right[0].kind in ("end", "close"):
        return True
    first, *rest = right
    if first.kind == "open":
        return loose or first.text.lstrip("\\") not in ("(", "{")
    if first.kind == "operand":
        return (first.text.isalpha() and first.text not in _VARIABLES) or (loose and not first.text.startswith("\\"))
    if first.text in _RELATIONS or (first.text == "!" and not formal):
        return True
    _undressed(rest)
    if not rest or rest[0].kind in ("end", "close"):
        return first.text != "!"
    return first.text in _DASHES and loose and any(token.text.isalpha() and len(token.text) > 1 for token in rest)
