r"""Answers in mathematical text: where the answer stands, and which number it is.

Example: `She makes 9 * 2 = $18 a day.\nA: 18` -> `18`; `\boxed{1\frac{1}{2}}` -> `1\frac{1}{2}`, the number 1.5.

The answer is looked for in this order: the last `<answer>` tag, the last `\boxed{}` with its nested braces, the last
`#### n` (GSM8K's own mark), the last "the answer is ...", the last line `A: n`, and without any mark what the text ends
in: the right side of a last equation, a short expression, the last number.
"""

import re
import unicodedata
from fractions import Fraction

# An answer is read from its end: this many characters are plenty.
MAX_TEXT_CHARS = 20_000
MAX_NUMBER_CHARS = 80

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_MARK = re.compile(r"####[^\S\n]*(\S[^\n]*)")
_SENTENCE = re.compile(r"\banswer\s+is\b\s*(?::\s*)?([^\n]+)", re.IGNORECASE)
_LABEL = re.compile(r"^[^\S\n]*\**(?:A|(?:final\s+)?answer)\**\s*:\s*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's calculator annotations

_PLAIN = r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?<=\d)"
_NUMBER = re.compile(rf"(?<![\w.]){_PLAIN}")
_POWER_OF_TEN = re.compile(rf"({_PLAIN})\s*(?:\\times|\\cdot|[×x*])\s*10\s*(?:\^|\*\*)\s*\{{?\s*(-?\d{{1,3}})\s*\}}?")
_ROW = re.compile(rf"{_PLAIN}(?:\s*,\s*{_PLAIN})+|\d+:\d\d(?:\s*[ap]\.?m\.?)?", re.IGNORECASE)  # `2, 3, 5`; `7:30 pm`
_FRACTION = re.compile(r"([-+]?)\s*(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)")
_REPEATING = re.compile(r"(-?)(\d+)\.(\d*)\\overline\s*\{?(\d+)\}?")
_UNIT = (
    r"(?:\s*(?:%|°|\^\s*\\?circ|\^\{\s*\\circ\s*\}|\\?degrees?))?"
    r"(?:\s*[a-zA-Z]+\d?\.?(?:(?:\s+|\s*[./*·-]\s*)[a-zA-Z]+\.?|\^\{?-?\d\}?){0,5})?"
)
_WITH_UNIT = re.compile(rf"({_PLAIN}){_UNIT}")
# After a number these are more than a unit: `3x`, `12pi`, `4i`.
_FACTOR = re.compile(r"(?:pi|[abceiknpqruvwxyz]|[abxyz]{2})(?![a-zA-Z])")
# So are these.
_NO_UNIT = re.compile(r"\b(?:or|and|to|plus|minus|times|point|half|maybe|over|out|remainder)\b", re.IGNORECASE)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
# Words that are mathematics, not English.
_FUNCTIONS = re.compile(
    "(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp|sqrt|abs|min|max|gcd|lcm|mod|pi|inf|infty|infinity|[dt]?frac|binom"
    "|begin|end|[bpvBV]?matrix|circ|cdot|times|div|pm|leq?|geq?|neq|in|cup|cap|emptyset|left|right|theta|alpha|beta|gamma|phi",
    re.IGNORECASE,
)


def find_answer(text: str) -> str | None:
    """Find the final answer in a text, in the order that the module documents.

    Returns:
        `str` or `None` when the text has neither a mark nor a number. Never raises.
    """
    text = text[-MAX_TEXT_CHARS:]
    if (marked := find_marked(text)) is not None:
        return marked
    stripped = _CALCULATION.sub("", text).strip()
    if to_number(stripped) is not None:
        return stripped
    result = stripped.rpartition("=")[2].strip()
    if result != stripped and to_number(result) is not None:
        return result
    if 0 < len(stripped) <= 60 and "\n" not in stripped and (is_expression(stripped) or _ROW.fullmatch(stripped)):
        return stripped
    numbers = numbers_in(stripped)
    return numbers[-1] if numbers else None


def find_marked(text: str) -> str | None:
    """Find an answer that is marked as one; `None` when there is no mark or nothing in it."""
    if tags := _TAG.findall(text):
        inner = str(tags[-1]).strip()
        return _boxed(inner) or _said(inner) or None
    if (boxed := _boxed(text)) is not None:
        return boxed or None
    for pattern in (_MARK, _SENTENCE, _LABEL):
        if found := pattern.findall(text):
            return _said(str(found[-1])) or None
    return None


def _said(text: str) -> str:
    """What a marked phrase says: its number when it has just one, else all of it."""
    text = _CALCULATION.sub("", text).strip().strip("*").rstrip(".").strip().strip("*").strip()
    if to_number(text) is not None or is_expression(text):
        return text
    result = text.rpartition("=")[2].strip()
    if result != text and to_number(result) is not None:
        return result
    numbers = numbers_in(text)
    return numbers[0] if len(numbers) == 1 else text


def _boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, nested braces included; of a cut-off one, what is there."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start)
    depth = 0
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin + 1 : position].strip()
    return None


def numbers_in(text: str) -> list[str]:
    """Return the numbers of a text as they are written, in order."""
    return [match.group() for match in _NUMBER.finditer(text)]


def is_expression(text: str) -> bool:
    """Whether a text is mathematics and nothing else: no English word, and some sign, fraction or single letter."""
    bare = re.sub(r"\\(?:text|mathrm|mbox|operatorname)\s*\{[^{}]*\}", " ", text)
    words = re.findall(r"[A-Za-z]{2,}", bare)
    if not all(map(_FUNCTIONS.fullmatch, words)):
        return False
    return (
        bool(re.search(r"[\\^=\[\](){}√π∞∪]|\d\s*[/:]\s*\d|(?<![a-zA-Z])(?:[a-zA-Z]|pi)(?![a-zA-Z])", bare))
        and len(bare) <= 400
    )


def is_calculation(text: str) -> bool:
    """Whether a text is a sum, difference or product of plain numbers that nobody has worked out: `24 * 68 + 3`."""
    text = re.sub(r"\\(?:times|cdot|left|right)", "*", text)
    return bool(re.fullmatch(r"[\d\s.,()+*×·/^{}−-]+", text)) and bool(re.search(r"[\d)]\s*[+*×·−-]\s*[\d(]", text))


def lists_several(text: str) -> bool:
    """Whether a text offers several answers instead of one: `12 or 18`, `12; 18`, one on each line."""
    bare = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    return bool(re.search(r"\b(?:or|and|maybe|either)\b|;|\n\s*\S", bare, re.IGNORECASE)) or bool(
        re.search(r",(?!\d{3}(?!\d))", re.sub(r"\{,\}|\\,", "", bare))
    )


def to_number(text: str) -> float | None:
    r"""Return the number that a text is, or `None`.

    Understood: `1,234`, `$5.00`, `50%`, `3/4`, `1 1/2`, `\frac{1}{2}`, `\frac12`, `½`, `3 \times 10^5`, `7 apples`,
    `0.\overline{3}`, `12\text{ cm}^2`. A percent sign and a unit after the number are dropped, as GSM8K's and
    MATH's own checkers do.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    text = _simplified(text)
    if match := _FRACTION.fullmatch(re.sub(r"\s*%$", "", text)):
        return _fraction(*match.groups())
    if match := _REPEATING.fullmatch(text):
        return _repeating(*match.groups())
    if match := _POWER_OF_TEN.fullmatch(text):
        return _finite(match.group(1), int(match.group(2)))
    if match := re.match(rf"{_FRACTION.pattern}(?=\s+[a-zA-Z])", text):
        return _fraction(*match.groups()) if re.fullmatch(_UNIT, text[match.end() :]) else None
    match = _WITH_UNIT.fullmatch(text)
    if match is None or _NO_UNIT.search(text) or _FACTOR.match(text, match.end(1)):
        return None
    value = _finite(match.group(1))
    word = text[match.end(1) :].split()
    return value * _SCALES.get(word[0].lower(), 1.0) if value is not None and word else value


def is_percent(text: str) -> bool:
    """Whether a text is written as a percentage."""
    return bool(re.search(r"(?:%|\bpercent)\s*\.?$", text.strip().strip("$")))


def _simplified(text: str) -> str:
    """Rewrite LaTeX and typography of plain numbers as ASCII."""
    text = "".join(_vulgar(character) for character in text)
    text = text.strip().strip("*").replace("−", "-").replace("–", "-").replace("{,}", ",")
    text = re.sub(r"\\[!,;: ]|\\left|\\right|\\displaystyle", "", text).replace("\\$", "$").replace("\\%", "%")
    text = re.sub(r"\\[()\[\]]|(?<=\})\$|\$(?=\\)", "", text).strip("$").strip()
    text = re.sub(r"(?<=\d)\s*(?=\\[dt]?frac)", " ", text)
    text = re.sub(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}", r"\1/\2", text)
    text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r"\1/\2", text)
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text)
    text = re.sub(r"^([-+]?)\s*(?:US)?[$€£¥]\s*", r"\1", text.strip())
    return text.rstrip(".").strip()


def _vulgar(character: str) -> str:
    plain = unicodedata.normalize("NFKC", character) if character in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞" else character
    return plain if plain == character else " " + plain.replace("\u2044", "/")


def _fraction(sign: str, whole: str | None, top: str, bottom: str) -> float | None:
    if int(bottom) == 0:
        return None
    value = Fraction(int(whole or 0)) + Fraction(int(top), int(bottom))
    try:
        return float(-value if sign == "-" else value)
    except OverflowError:
        return None


def _repeating(sign: str, whole: str, fixed: str, period: str) -> float:
    scale = 10 ** len(fixed)
    value = Fraction(int(whole + fixed), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return float(-value if sign == "-" else value)


def _finite(text: str, power: int = 0) -> float | None:
    try:
        value = float(text.replace(",", "").replace("−", "-")) * 10.0**power
    except (ValueError, OverflowError):
        return None
    return value if abs(value) < float("inf") else None
