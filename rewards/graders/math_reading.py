r"""An answer as it is compared: a number or expression, its unit, and how else its text may be read.

Example: `read("\\$1.5\\text{M}")` has the value 1500000 and the unit `dollar`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

from rewards.graders.math_compare import equal_numbers, items_of, same, unlabelled
from rewards.graders.math_nodes import Node, is_scalar
from rewards.graders.math_parse import parse_math
from rewards.graders.math_tokens import (
    MAX_CHARS,
    MathSyntaxError,
    Token,
    comma_is_ambiguous,
    tokens_of,
    without_delimiters,
)
from rewards.graders.math_units import Quantity, split_unit
from rewards.graders.math_value import exact, names_in
from rewards.graders.notation import as_latex
from rewards.graders.number_words import begun_in_digits

PERCENT_SCALES = (Fraction(1), Fraction(1, 100))
_REPEATING = re.compile(
    r"([-+]?)\s*(\d*)\.(\d*)"
    r"(?:\\overline\s*\{?(\d+)\}?|\\bar\s*\{?(\d+)\}?|\\dot\s*\{?(\d)\}?|(?<=\.)\((\d+)\))"
)
_CHOICE = re.compile(r"(?:(?i:option|choice) )?\(?([A-J])\)?[.:]?")
_CHOICE_AND_TEXT = re.compile(r"\(?([A-J])[).:]\s*(\S.*)")
_RATIO = re.compile(r"[A-J]:\S")
_SPACING = re.compile(r"\\[ ,;:!]|\\q?quad\b|~")
_DATE = re.compile(r"\d{4}([-/])\d{1,2}\1\d{1,2}|\d{1,2}([-/])\d{1,2}\2\d{4}")
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
# Notations of other kinds: units as a fraction, binomials, `^{3}/_{5}`, transposes, `[0, 1[`, `3 & 5`.
_UNIT_FRACTION = re.compile(
    r"\\[dt]?frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]+)\}\s*\}\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]+)\}\s*\}"
)
_CHOOSE = re.compile(
    r"(?:\{\})?[_^]\{?(\d+)\}?\s*(?:C|\\mathrm\{C\})_\{?(\d+)\}?|(?<![A-Za-z\\])C_\{?(\d+)\}?\^\{?(\d+)\}?"
    r"|(?<![\w.])(\d+)\s+choose\s+(\d+)(?![\w.])"
)
_CASES = re.compile(r"\\begin\{cases\}((?:(?!\\(?:begin|end)\b)[^&])*)\\end\{cases\}", re.DOTALL)
_TO = re.compile(r"(\d+)\s+to\s+(\d+)")
_SLANTED = re.compile(r"\^\{?(\d+)\}?\s*/\s*_\{?(\d+)\}?")
_AMPERSAND = re.compile(r"(?:\s|\\ )+\\?&(?:\s|\\ )+")
_TRANSPOSED = re.compile(r"\^\s*\{?\s*(?:\\top|\\intercal|\\math(?:rm|sf)\{T\})\s*\}?")
_INTERVAL = r"[\[\]][^\[\](){},;]+[,;][^\[\](){},;]+[\[\]]"
_OUTWARD = re.compile(rf"(?:[a-z]\s*\\in\s*)?{_INTERVAL}(?:\s*\\cup\s*{_INTERVAL})*")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mbox|textrm)\s*\{([^{}]*)\}")


@dataclass(frozen=True)
class Reading:
    """One way to read an answer.

    Args:
        node (`Node`): what it says, without its unit.
        unit (`str`): canonical, empty without one.
        percent (`bool`): whether it is written as a percentage; the node is then the number before the sign.
    """

    node: Node
    unit: str = ""
    percent: bool = False

    @property
    def number(self) -> Node | None:
        """The value when it is one without variables, labelled or not (`x = 5`)."""
        node = unlabelled(self.node)[1]
        return node if is_scalar(node) and not names_in(node) else None


def readings_of(text: str, question_words: Collection[str] = ()) -> tuple[Reading, ...]:
    """Return the ways to read a text: none when it is no mathematics, two when `1,234` may be a list. Never raises.

    Args:
        text (`str`): an answer, gold or found.
        question_words (`Collection[str]`): see `split_unit`.
    """
    if len(text) > MAX_CHARS:
        return ()
    latex = (
        without_delimiters(as_latex(text)).rstrip(".").strip() if not text.rstrip().endswith(".m.") else as_latex(text)
    )
    if _DATE.fullmatch(latex):
        return (Reading(Node("word", text=latex)),)
    latex = begun_in_digits(_TIMES_TEN.sub(r"\\times ", _in_usual_notation(_number_in_text(latex))))
    repeating = _repeating(latex)
    if repeating is not None:
        return (Reading(repeating),)
    found = []
    for thousands in (True, False) if comma_is_ambiguous(latex) else (True,):
        reading = _read(latex, question_words, thousands)
        if reading is not None:
            found.append(reading)
    return tuple(found)


def _number_in_text(latex: str) -> str:
    r"""`\text{five}` without the wrapper; words in one are words."""
    wrapped = _WRAPPED.fullmatch(latex)
    inner = wrapped.group(1).strip() if wrapped else ""
    if inner.lower() in ("infinity", "inf"):
        return "\\infty"
    return inner if inner[:1].isdigit() or begun_in_digits(inner) != inner else latex


def _in_usual_notation(latex: str) -> str:
    r"""A text with `\text{km/h}` for a fraction of units, `\binom` for each sign of it, `[0, 1)` for `[0, 1[`."""
    latex = _UNIT_FRACTION.sub(r"\\text{\1/\2}", latex)
    if ratio := _TO.fullmatch(latex):
        return f"{ratio[1]}:{ratio[2]}"
    latex = _CHOOSE.sub(lambda found: "\\binom{{{}}}{{{}}}".format(*filter(None, found.groups())), latex)
    latex = _CASES.sub(lambda found: _rows_of(found.group(1)) or found.group(), latex)
    latex = _TRANSPOSED.sub("^T", latex)
    if "\\begin" not in latex:
        latex = _AMPERSAND.sub(" and ", latex)
    if _OUTWARD.fullmatch(latex) and re.search(r"\][^\[\]]*[,;]|[,;][^\[\]]*\[", latex):
        latex = re.sub(_INTERVAL, lambda found: _inward(found.group()), latex)
    slanted = _SLANTED.fullmatch(latex)
    return f"\\frac{{{slanted[1]}}}{{{slanted[2]}}}" if slanted else latex


def _rows_of(system: str) -> str | None:
    """The equations of a system, side by side; `None` where a row is no equation."""
    rows = [row.strip(" ,\n") for row in re.split(r"\\\\|\n", system) if row.strip(" ,\n")]
    return ", ".join(rows) if rows and all(row.count("=") == 1 for row in rows) else None


def _inward(interval: str) -> str:
    """`[0, 1)` for `[0, 1[`, an open end as most of the world writes it."""
    return f"{interval[0].replace(']', '(')}{interval[1:-1]}{interval[-1].replace('[', ')')}"


def _read(latex: str, question_words: Collection[str], thousands: bool) -> Reading | None:
    quantity = split_unit(latex, question_words)
    if quantity.number != latex:
        node = _parsed(quantity.number, thousands)
        if node is not None and _takes_unit(node):
            return Reading(_scaled(node, quantity), quantity.unit, quantity.percent)
    node = _parsed(latex, thousands)
    return None if node is None else Reading(node)


def _parsed(text: str, thousands: bool) -> Node | None:
    try:
        return parse_math(text, thousands=thousands)
    except (MathSyntaxError, RecursionError, ValueError):
        return None


def _takes_unit(node: Node) -> bool:
    """Only a number, a ratio or a time has a unit: after a variable letters are variables."""
    value = unlabelled(node)[1]
    if value.op == "ratio":
        return True
    return is_scalar(value) and not names_in(value)


def _scaled(node: Node, quantity: Quantity) -> Node:
    if quantity.scale == 1:
        return node
    value = exact(node)
    if value is not None:
        return Node("number", value=value * quantity.scale, places=_places(node))
    return Node("mul", (node, Node("number", value=quantity.scale)))


def _places(node: Node) -> int | None:
    return 0 if node.places is not None else None


def _repeating(latex: str) -> Node | None:
    match = _REPEATING.fullmatch(latex)
    if match is None:
        return None
    sign, whole, fixed = match.group(1), match.group(2), match.group(3)
    period = next(group for group in match.groups()[3:] if group)
    scale = 10 ** len(fixed)
    value = Fraction(int((whole + fixed) or "0"), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return Node("number", value=-value if sign == "-" else value)


def same_reading(answer: Reading, gold: Reading, *, scales: Collection[Fraction] = PERCENT_SCALES) -> bool:
    """Whether two readings say the same, units included; a unit that only the answer has is allowed.

    Args:
        answer (`Reading`): found in a text.
        gold (`Reading`): of the gold answer.
        scales (`Collection[Fraction]`): what one percent of the answer may be of a gold answer without the sign.
    """
    answer, gold = _beside(answer, gold), _beside(gold, answer)
    if not units_agree(answer, gold):
        return False
    if answer.percent == gold.percent or answer.number is None or gold.number is None:
        return same(answer.node, gold.node)
    # 50 % is 50 in one book and 0.5 in another.
    percent, plain = (answer, gold) if answer.percent else (gold, answer)
    assert percent.number is not None and plain.number is not None
    forms = [_times(percent.number, scale) for scale in (PERCENT_SCALES if gold.percent else scales)]
    return any(equal_numbers(form, plain.number) for form in forms)


def _times(number: Node, scale: Fraction) -> Node:
    part = exact(number)
    if part is None:
        return Node("mul", (number, Node("number", value=scale)))
    return Node("number", value=part * scale, places=number.places)


def _beside(reading: Reading, other: Reading) -> Reading:
    """A time of day in 24 hours where the other one can only be so: `3:45 pm` beside `15:45`."""
    hour, beside = _hour(reading), _hour(other)
    if hour is None or beside is None or reading.unit not in ("am", "pm") or other.unit or 1 <= beside <= 12:
        return reading
    shifted = hour % 12 + (12 if reading.unit == "pm" else 0)
    return Reading(Node("ratio", (Node("number", value=shifted), *reading.node.args[1:])))


def _hour(reading: Reading) -> Fraction | None:
    return exact(reading.node.args[0]) if reading.node.op == "ratio" else None


def units_agree(answer: Reading, gold: Reading) -> bool:
    """Whether the units are the same, or only the answer has one, or only the gold answer; percent is one here."""
    if (answer.percent and gold.unit) or (gold.percent and answer.unit):
        return False
    return not (answer.unit and gold.unit) or answer.unit == gold.unit


def counts(reading: Reading) -> int:
    """Return how many values a reading offers."""
    if reading.node.op in ("list", "set"):
        return len(items_of(reading.node))
    return len(items_of(reading.node)) if reading.number is None else 1


def same_words(answer: str, gold: str) -> bool:
    """Whether two texts have the same tokens, or name the same choice of a question that has several. Never raises."""
    label = _choice(gold)
    if label is not None and (label == _choice(answer) or label == _choice_with_text(answer)):
        return True
    if (_WRAPPED.fullmatch(answer) or _WRAPPED.fullmatch(gold)) and _unwrapped(answer) == _unwrapped(gold):
        return True
    try:
        left, right = (_bare(tokens_of(text, any_command=True)) for text in (answer, gold))
    except (MathSyntaxError, RecursionError):
        return _folded(answer) == _folded(gold)
    return left == right


def _bare(tokens: tuple[Token, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((token.kind, token.text) for token in tokens)


def _folded(text: str) -> str:
    """A text in words: its case and its outer marks do not count. Mathematics is not folded."""
    bare = " ".join(_WRAPPED.sub(r"\1", as_latex(text)).strip().strip("$*").rstrip(".").split())
    return bare.casefold() if re.fullmatch(r"[\w\s,.'-]+", bare) and re.search(r"[^\W\d]{2}", bare) else bare


def _unwrapped(text: str) -> str:
    return " ".join(_SPACING.sub(" ", _WRAPPED.sub(r" \1 ", as_latex(text))).strip().strip("$*").strip(".").split())


def _choice(text: str) -> str | None:
    match = _CHOICE.fullmatch(_unwrapped(text))
    return match.group(1) if match else None


def with_choice_apart(gold: str) -> tuple[str, ...]:
    """Return a gold answer, and of `(B) 12`, which has a choice and what it says, both as well."""
    return (gold, *(_choice_and_text(gold) or ()))


def without_choice(answer: str, golds: Collection[str]) -> str:
    """Return what `(B) 12` says beside its choice, where no gold answer names one."""
    said = _choice_and_text(answer) if not _RATIO.match(answer) else None
    return said[1] if said and not any(_choice(gold) or _choice_and_text(gold) for gold in golds) else answer


def _choice_with_text(text: str) -> str | None:
    found = _choice_and_text(text)
    return found[0] if found else None


def _choice_and_text(text: str) -> tuple[str, str] | None:
    """The choice and the text in `(B) 12`, when no other is named."""
    match = _CHOICE_AND_TEXT.fullmatch(_unwrapped(text))
    if match is None or re.search(r"\([A-J]\)|\b(?:or|and|not)\b", match.group(2)):
        return None
    return match.group(1), match.group(2)
