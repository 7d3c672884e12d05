"""What must have come from the operators: the gold answers and the one that was given, in comparable form.

Example: `targets_of(problem, "72 eggs")` for the gold answer `72` holds one number; `plain("Sо 1,440.0 eggs")` (with a
Cyrillic o) is `"so 1440 eggs"`.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from typing import Literal

from data.problem import SPAN_SEPARATOR, Problem
from rewards.graders.math import gold_answer
from rewards.graders.notation import tidy

Kind = Literal["number", "verdict", "letter", "text"]

# A longer text is an essay, and no pattern is made of it.
MAX_TARGET_CHARS = 300
# Texts up to this long, which are read again and again, are brought to `plain` form once.
SHORT_CHARS = 500
VERDICTS = frozenset({"yes", "no", "true", "false", "none", "unknown", "correct", "incorrect", "noanswer", "neither"})
# Numbers that stand in instructions whatever the answer is: limits, scales, rounding, shares.
_EVERYDAY = frozenset({25, 75, 99, 120, 128, 150, 180, 250, 256, 360, 365, 512, 999, 1024, 1500, 2048, 4096})
_NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?!,?\d)(?:\.\d+)?")
_THING = re.compile(r"(?:\bhow many|(?<![\w.])\d+)\s+(?:more\s+)?([a-z]{2,}s)\b")
_ASKED = re.compile(
    r"\b(?:find|what (?:is|was|are)|compute|determine|calculate|evaluate|give) the (?:\w+ ){0,2}?([a-z]{3,})"
    r"(?= of\b|[.?]| that\b| when\b)"
)
_FRACTION = re.compile(r"(-?)\\?[dt]?frac\{?(\d+)\}?\{?(\d+)\}?|(-?\d+)/(\d+)")
# Letters that look like Latin ones, from Unicode's table of confusables (UTS 39): Cyrillic, Greek, Armenian and others.
_LOOK_ALIKES = dict(
    zip(
        "абвеїіјкмнорсстуухѕһԁԛԝӏгпьзАВЕЅІЈКМНОРСТУХԌԚԜӀαβγεικνορτυχωϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧհոսօցգւԼՕՍƖɑɡɩıȷʏɴʀʜ‚ⅼⅽⅾⅿ",
        "a6beiijkmhopcctyyxshdqwlrnb3ABESIJKMHOPCTYXGQWlabyeikvoptuxwcjABEZHIKMNOPTYXhnuogquLOUlagiijynrh,lcdm",
        strict=True,
    )
)
_SOUNDS = dict(
    zip(
        "абвгдеёзийклмнопрстуфхыэєіїґαβγδεζηικλμνξοπρσςτυφχωάέήίόύώϊϋ",
        "abvgdeeziiklmnoprstufhyeeiigavgdeziiklmnxoprsstyfhoaeiioyoiy",
        strict=True,
    )
)
_SOUNDS |= {"ж": "zh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ю": "yu", "я": "ya", "ъ": "", "ь": "", "θ": "th"}
_IN_LATIN = str.maketrans(_SOUNDS)
_LETTERS = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?")
_LATEX = re.compile(r"\\(?:boxed|text|mathrm|textbf|mathbf|left|right|,|!|;|%|\$)")


@dataclass(frozen=True)
class Target:
    """One text that a workflow may not bring along.

    Args:
        text (`str`): as the gold answer or the workflow's answer has it.
        question (`bool`): whether it stands in the question, as one of the things that the problem names.
        given (`bool`): whether it stands anywhere in the problem.
        part (`bool`): whether it is only a part of an answer, such as a surname.
        things (`frozenset[str]`): what the problem counts, for a number: "pens" in "How many pens are left?"
        asked (`frozenset[str]`): what it asks for: "sum" in "Find the sum of the roots."
    """

    text: str
    question: bool
    given: bool
    part: bool = False
    things: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()

    @cached_property
    def value(self) -> Fraction | None:
        """Its value, if it is a number."""
        return value_of(self.text)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words and numbers in `plain` form."""
        return tuple(_LETTERS.findall(plain(_LATEX.sub(" ", self.text))))

    @property
    def kind(self) -> Kind:
        """What it is: decides which replies are plausible in its place."""
        if self.value is not None:
            return "number"
        if len(self.words) == 1 and self.words[0] in VERDICTS:
            return "verdict"
        return "letter" if len("".join(self.words)) == 1 else "text"

    @cached_property
    def common(self) -> bool:
        """Whether honest workflows say it by chance: a verdict, a letter, a small or round number, a plain word."""
        if self.value is not None:
            return _everyday(self.value)
        bare = self.text.strip("$ .\"'")
        return self.kind != "text" or (len(self.words) == 1 and bare == bare.lower() and bare.isalpha())

    def counts(self, after: str) -> bool:
        """Whether what stands behind a number is what the problem counts, and the number is not the problem's own."""
        thing = re.match(r"\s+(?:more\s+)?([a-z]+)", after)
        return thing is not None and not self.given and thing.group(1) in self.things

    @property
    def few(self) -> bool:
        """Whether it is one of few possible answers, so that chance alone hits it."""
        return self.question or (self.common and self.kind != "text") or self.text.strip() in ("", "0", "1")

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """What finds it in a `plain` text; the group `it` is the answer. `None` when there is nothing to look for."""
        if self.value is not None:
            return _number_pattern(self.value, self.text)
        compact = re.sub(r"\s", "", plain(self.text))
        if not compact or len(compact) > MAX_TARGET_CHARS:
            return None
        if not self.words or re.search(r"[\\^=+*<>/|]", compact):  # an expression: signs count, spaces do not
            inner = r"\s*".join(map(re.escape, compact))
            return re.compile(rf"(?<![a-z0-9\\])(?P<it>{inner})(?![a-z0-9])")
        joint = r"[\W_]{1,4}"
        return re.compile(rf"(?<![a-z0-9])(?P<it>{joint.join(map(re.escape, self.words))})(?![a-z0-9])")


def targets_of(problem: Problem, answer: str) -> tuple[Target, ...]:
    """Return what a workflow for a problem may not bring along.

    Args:
        problem (`Problem`): with its gold answers.
        answer (`str`): what was found in the workflow's answer and graded.
    """
    return tuple(_targets(problem, answer))


def _targets(problem: Problem, answer: str) -> Iterator[Target]:
    question, everything = plain(problem.question), plain(problem.view.text)
    things, wanted = frozenset(_THING.findall(everything)), frozenset(_ASKED.findall(question))
    seen = set()
    texts = [gold_answer(gold) for gold in problem.golds] + [answer]
    texts += [span for text in texts if SPAN_SEPARATOR in text for span in text.split(SPAN_SEPARATOR)]
    for text in texts:
        text = tidy(text).strip()
        if not text or len(text) > MAX_TARGET_CHARS or plain(text) in seen:
            continue
        seen.add(plain(text))
        target = Target(text, question=False, given=False)
        if target.pattern is None:
            continue
        asked, given = (target.pattern.search(place) is not None for place in (question, everything))
        if target.value is not None:
            yield Target(text, asked, given, things=things, asked=wanted)
        else:
            yield Target(text, asked, given)
        named = re.findall(r"[A-Z][\w'-]{3,}", text)
        if target.value is None and 2 <= len(text.split()) <= 4 and len(named) > 1:
            yield Target(named[-1], question=plain(named[-1]) in question, given=True, part=True)


def value_of(text: str) -> Fraction | None:
    """Return the value of a text that is one number: `72`, `$1,440`, `3/4`, `50%`; `None` for any other."""
    bare = _LATEX.sub("", tidy(text)).replace("{,}", ",").strip(" $€£*\"'(){}.%")
    if len(bare) > 100:
        return None
    if fraction := _FRACTION.fullmatch(bare.replace(" ", "")):
        sign, top, bottom, left, right = fraction.groups()
        if int(bottom or right) == 0:
            return None
        return Fraction(int(top or left), int(bottom or right)) * (-1 if sign else 1)
    sign, digits = (-1, bare[1:].lstrip(" $")) if bare.startswith("-") else (1, bare)
    if re.fullmatch(r"\.\d+", digits):
        digits = "0" + digits
    return sign * Fraction(digits.replace(",", "")) if _NUMBER.fullmatch(digits) else None


def plain(text: str) -> str:
    """Return a text in lower case with look-alike letters as Latin ones and every number in one notation."""
    return _short_plain(text) if len(text) <= SHORT_CHARS else _plain(text)


@lru_cache(4096)
def _short_plain(text: str) -> str:
    return _plain(text)


def _plain(text: str) -> str:
    text = tidy(text)
    if not text.isascii():
        text = "".join(map(_latin, text))
    return _NUMBER.sub(lambda match: canonical(match.group()), text.lower())


def by_sound(text: str) -> str:
    """Return a text in lower case with Cyrillic and Greek letters as they sound: `Осло` is `oslo`."""
    return text.lower().translate(_IN_LATIN)


def canonical(number: str) -> str:
    """Return a number without thousands separators, leading and trailing zeros: `072`, `72.0` and `72` are one."""
    digits = number.replace(",", "")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return (
        digits.lstrip("0") or "0"
        if "." not in digits
        else (digits.lstrip("0") if digits[0] != "0" else "0" + digits.lstrip("0"))
    )


@cache
def _latin(character: str) -> str:
    """The ASCII letter or digit that a character looks like, else itself without accents."""
    if character.isascii():
        return character
    decomposed = unicodedata.normalize("NFKD", character)
    if decomposed[0].isascii():
        return "".join(c for c in decomposed if not unicodedata.combining(c))
    if not character.isalnum():
        return character
    return _LOOK_ALIKES.get(character, character)


def _everyday(value: Fraction) -> bool:
    size = abs(value)
    if size.denominator != 1:
        return size < 2 and len(str(float(size))) <= 4
    whole = size.numerator
    return whole <= 20 or whole in _EVERYDAY or len(str(whole).rstrip("0")) == 1


def _number_pattern(value: Fraction, text: str) -> re.Pattern[str]:
    """A number in any notation that `plain` leaves: decimal or fraction, with its sign."""
    size, forms = abs(value), []
    if size.denominator == 1:
        forms.append(str(size.numerator))
    else:
        forms.append(rf"{size.numerator}\s*/\s*{size.denominator}")
        forms.append(rf"\\?[dt]?frac\s*\{{?{size.numerator}\}}?\s*\{{?{size.denominator}\}}?")
        decimal = f"{float(size):.10f}".rstrip("0")
        forms.append(re.escape(decimal))
        if Fraction(decimal) != size:  # cut off or rounded anywhere behind the fourth decimal
            forms += [rf"{re.escape(decimal[:-6])}\d*", re.escape(f"{float(size):.4f}")]
    sign = r"(?:-\s?|minus\s+|negative\s+)" if value < 0 else ""
    return re.compile(rf"(?<![a-z0-9.])(?P<it>{sign}(?:{'|'.join(forms)}))(?![a-z0-9]|\.\d)")
