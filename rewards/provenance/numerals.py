"""Numbers that are written as words, Roman numerals or calculations, put in digits.

Example: `with_digits("seventy-two, LXXII or 70 plus 2")` is `"72, 72 or 70 + 2"`, and `with_values` makes the last
`72` too.
"""

import ast
import operator
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from math import factorial

from num2words import CONVERTER_CLASSES, num2words

from rewards.graders.number_words import NUMBER_WORDS, digits_of
from rewards.provenance.targets import SHORT_CHARS

_BEFORE_PRONOUN = re.compile(
    r"\b(?:which|this|that|each|every|any|no|choose|pick|select|the|some|correct|right|best|other|wrong|by)\s+$", re.I
)
_AFTER_PRONOUN = re.compile(r"\s+(?:of|by|another|more|who|that|which)\b", re.I)
_ROMAN = re.compile(
    r"(?<![\w.'])(?=[MDCLXVI]{2,}(?![\w']))M{0,4}(?:CM|CD|D?C{0,4})(?:XC|XL|L?X{0,4})(?:IX|IV|V?I{0,4})(?!\w)"
)
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
# What a part is one of so many of: "five twelfths".
_ORDINALS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_ORDINALS |= {"eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fifteenth": 15}
_ORDINALS |= {"sixteenth": 16, "twentieth": 20, "hundredth": 100, "thousandth": 1000}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALED = re.compile(rf"(?<=\d)\s?({'|'.join(_SCALES)})\b", re.IGNORECASE)
_CHINESE = str.maketrans("0123456789", "〇一二三四五六七八九")
# Words of other languages that are English ones too.
_ENGLISH = frozenset({"once", "elf", "sex", "six", "fem", "fire", "cent", "ten", "die", "dix", "one"})

_MEASURED = r"(?:(?:years?|days?|units?)\s+)?"
_SPOKEN = (
    (re.compile(r"\b(?:added to|plus|increased by)\b", re.IGNORECASE), "+"),
    (re.compile(r"\b(?:minus|reduced by)\b", re.IGNORECASE), "-"),
    (re.compile(r"\b(?:times(?=\s*[-\d(])|multiplied by\b)|[×·∙⋅]|\\times\b|\\cdot\b", re.IGNORECASE), "*"),
    (re.compile(r"\b(\d+) out of (\d+)\b", re.IGNORECASE), r"\1/\2"),
    (re.compile(r"\b(?:divided by|over)\b|÷|\\div\b", re.IGNORECASE), "/"),
    (re.compile(r"\bto the power of\b|\^", re.IGNORECASE), "**"),
    (re.compile(r"\s*(?:²|\bsquared\b)", re.IGNORECASE), "**2"),
    (re.compile(r"\s*(?:³|\bcubed\b)", re.IGNORECASE), "**3"),
    (re.compile(r"\b(?:double|twice)\s+(?=[\d(])", re.IGNORECASE), "2*"),
    (re.compile(r"\b(?:triple|thrice)\s+(?=[\d(])", re.IGNORECASE), "3*"),
    (re.compile(r"\bhalf\s+(?:of\s+)?(?=[\d(])", re.IGNORECASE), "0.5*"),
    (
        re.compile(
            r"\b(\d+)\s+(?:years? |days? |units? )?(?:less than|fewer than|before|below)\s+(\d+)\b", re.IGNORECASE
        ),
        r"\2-\1",
    ),
    (re.compile(rf"\b(\d+)\s+{_MEASURED}(?:more than|after|above)\s+(\d+)\b", re.IGNORECASE), r"\2+\1"),
    (re.compile(r"\b(?:sum|total) of (\d+) and (\d+)\b", re.IGNORECASE), r"\1+\2"),
    (re.compile(r"\bproduct of (\d+) and (\d+)\b", re.IGNORECASE), r"\1*\2"),
    (re.compile(r"\bdifference (?:of|between) (\d+) and (\d+)\b", re.IGNORECASE), r"\1-\2"),
    (re.compile(r"\b(?:number|integer) (?:right |just |directly )?after (\d+)\b", re.IGNORECASE), r"\1+1"),
    (re.compile(r"\b(?:number|integer) (?:right |just |directly )?before (\d+)\b", re.IGNORECASE), r"\1-1"),
    (re.compile(r"\b(?:successor of|1 past) (\d+)\b", re.IGNORECASE), r"\1+1"),
    (re.compile(r"\bpredecessor of (\d+)\b", re.IGNORECASE), r"\1-1"),
    (re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,12})?)e\+?(\d{1,2})(?!\w)", re.IGNORECASE), r"\1*10**\2"),
    (re.compile(r"(?:\b(?:square )?root of|√|\\?sqrt)\s*[({]?\s*(\d+)\s*[)}]?", re.IGNORECASE), r"(\1)**0.5 "),
    (re.compile(r"(?<=\d)\s+(?:dozens?)\b", re.IGNORECASE), "*12"),
    (re.compile(r"(?<=\d)\s+gross\b", re.IGNORECASE), "*144"),
    (re.compile(r"\b(?:a\s+)?dozen\b", re.IGNORECASE), "12"),
    (re.compile(r"\b(?:a\s+)?gross\b", re.IGNORECASE), "144"),
    (re.compile(r"(?<=\d)\s?k\b", re.IGNORECASE), "*1000"),
    (re.compile(r"(?<=\d)\s*x\s*(?=10\s?\*\*)", re.IGNORECASE), "*"),
    (
        re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?%(?=\s+(?:as|in|to|into)\s+(?:an?\s+)?(?:decimal|fraction|number))"),
        r"\1/100",
    ),
    (re.compile(r"\b(\d+)\s+(?:and\s+)?(\d+)/(\d+)(?!\d|/)"), r"\1+\2/\3"),
    (re.compile(r"\b(\d+) and (?:a|1) half\b", re.IGNORECASE), r"\1+1/2"),
    (re.compile(r"\b(\d+) and (?:a|1) quarter\b", re.IGNORECASE), r"\1+1/4"),
    (re.compile(r"\b(\d+) and (?:a|1) third\b", re.IGNORECASE), r"\1+1/3"),
    (re.compile(r"\b(?:a\s+)?score\s+and\b", re.IGNORECASE), "20 +"),
)
_CALCULATION = re.compile(
    r"(?<![\w.])(?<![-+(]{8})[-+(]{0,8}\d+(?:\.\d+)?(?:\s*\)*\s*(?:\*\*|[-+*/%])\s*\(*\s*-?\d+(?:\.\d+)?)+\)*(?!\w)"
)
_FACTORIAL = re.compile(r"(?<![\w.!])(\d{1,2})(?:\s?!(?!\w)|\s+factorial\b)|\bfactorial of (\d{1,2})\b", re.IGNORECASE)
_POINT = re.compile(r"(?<![\w.])(\d+)\s+point\s+(\d+(?:\s\d)*)(?!\w)", re.IGNORECASE)
_PARTS = re.compile(rf"(?<![\w.])(\d+)[\s-]+({'|'.join(_ORDINALS)})s?(?!\w)", re.IGNORECASE)
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.FloorDiv: lambda left, right: Fraction(left // right),
}
# English is read above, and num2words never comes to an end with 999,999,999 in Amharic.
_LANGUAGES = tuple(name for name in CONVERTER_CLASSES if not name.startswith(("en", "am")))
MAX_SPELLED = 10**9
_MAX_NUMBER = 10**30
_MAX_EXPONENT = 64
_MAX_CALCULATIONS = 200


def with_digits(text: str) -> str:
    """Return a text with English number words and Roman numerals (two letters or more, in capitals) in digits."""
    return _short_with_digits(text) if len(text) <= SHORT_CHARS else _with_digits(text)


@lru_cache(4096)
def _short_with_digits(text: str) -> str:
    return _with_digits(text)


def _with_digits(text: str) -> str:
    text = _SCALED.sub(lambda match: f"*{_SCALES[match[1].lower()]}", text)
    text = NUMBER_WORDS.sub(lambda match: match.group() if _is_pronoun(match) else digits_of(match.group()), text)
    text = _POINT.sub(lambda match: f"{match[1]}.{match[2].replace(' ', '')}", text)
    text = _PARTS.sub(lambda match: f"{match[1]}/{_ORDINALS[match[2].lower()]}", text)
    return _ROMAN.sub(lambda match: str(_roman(match.group())) if match.group() else "", text)


def with_values(text: str, known: Collection[str]) -> str:
    """Return a text with each calculation replaced by its value, in digits.

    Args:
        text (`str`): with digits.
        known (`Collection[str]`): the numbers that the problem gives: a calculation with these only is a part of
            solving it, and stays.
    """
    text = _FACTORIAL.sub(lambda match: _factorial(match, known), text)
    for pattern, sign in _SPOKEN:
        text = pattern.sub(sign, text)
    return _CALCULATION.sub(lambda match: _valued(match.group(), known), text, count=_MAX_CALCULATIONS)


@lru_cache(4096)
def spelled(number: int) -> tuple[str, ...]:
    """Return how some forty other languages spell a whole number; only spellings of three letters or more.

    Args:
        number (`int`): at least 0; nothing is said of one from `MAX_SPELLED` on.
    """
    if number >= MAX_SPELLED:
        return ()
    found = {str(number).translate(_CHINESE)} if number > 9 else set()
    for language in _LANGUAGES:
        with suppress(Exception):  # a language that ends at some number says so in its own way
            found.add(num2words(number, lang=language))
    return tuple(sorted(word for word in found if (len(word) >= 3 or not word.isascii()) and word not in _ENGLISH))


def spoken_in_pairs(number: int) -> str | None:
    """Return how a year is spoken in English, `seventeen twenty-nine`; `None` of what is not spoken so."""
    hundreds, rest = divmod(number, 100)
    if not 10 <= hundreds <= 99 or rest == 0:
        return None
    return f"{num2words(hundreds)} {'oh ' if rest < 10 else ''}{num2words(rest)}"


def _is_pronoun(match: re.Match[str]) -> bool:
    """Whether "one" counts nothing: "which one", "choose one", "one of", "one by one"."""
    if match.group().lower() != "one":
        return False
    before, after = (
        match.string[max(0, match.start() - 12) : match.start()],
        match.string[match.end() : match.end() + 9],
    )
    return _BEFORE_PRONOUN.search(before) is not None or _AFTER_PRONOUN.match(after) is not None


def _roman(numeral: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    return sum(-v if i + 1 < len(values) and v < values[i + 1] else v for i, v in enumerate(values))


def _factorial(match: re.Match[str], known: Collection[str]) -> str:
    number = match.group(1) or match.group(2)
    return match.group() if number in known else f" {factorial(int(number))} "


def _valued(text: str, known: Collection[str]) -> str:
    if all(number in known for number in re.findall(r"\d+(?:\.\d+)?", text)):
        return text
    if (span := _RANGE.fullmatch(text)) and int(span[1]) < int(span[2]):
        return text
    surplus = text.count(")") - text.count("(")
    source = text.strip() + ")" * -surplus if surplus < 0 else "(" * surplus + text.strip()
    try:
        value = _evaluated(ast.parse(source, mode="eval").body)
    except (ValueError, ZeroDivisionError, SyntaxError, OverflowError, RecursionError, MemoryError):
        return text
    return f" {written(value)} "


def _evaluated(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _evaluated(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _evaluated(node.left), _evaluated(node.right)
        if max(abs(left), abs(right)) > _MAX_NUMBER:
            raise ValueError
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](left, right)
    raise ValueError


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent == Fraction(1, 2) and base >= 0:
        root = Fraction(round(float(base) ** 0.5))
        if root * root != base:
            raise ValueError
        return root
    if exponent.denominator != 1 or abs(exponent) > _MAX_EXPONENT or abs(base) > 10**6:
        raise ValueError
    return base**exponent.numerator


def written(value: Fraction) -> str:
    """Return a number in digits: whole, else with a point if it ends, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    text = f"{float(value):.10f}".rstrip("0")
    return text if Fraction(text) == value else f"{value.numerator}/{value.denominator}"
