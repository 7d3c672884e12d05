r"""What may stand around a number: currencies, units, scale words, things counted.

Example: `$1.5\text{M}` is 1500000 dollars, `12\text{ cm}^2` is 12 with the unit `cm^2`, `3 tenths` is 0.3; `3x` and `7
less than y` have no unit, they are something else.

Units are a closed list, and so are the words around them; beside them a plural that is not an operator ("18 eggs") is
what is counted. A single letter is a unit only where it stands upright: `12 m` may be 12 times m.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

from rewards.graders.notation import word_set
from rewards.graders.number_words import NUMBER_WORDS

_NAMES = {
    "mm": "mm millimeter millimetre", "cm": "cm centimeter centimetre", "dm": "dm decimeter", "m": "meter metre",
    "km": "km kilometer kilometre", "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile",
    "mg": "mg milligram", "g": "gram", "kg": "kg kilogram kilo", "lb": "lb lbs pound", "oz": "oz ounce",
    "ton": "ton tonne",
    "ms": "ms millisecond", "s": "sec second", "min": "min minute", "h": "hr hrs hour", "day": "day", "week": "week wk",
    "month": "month", "year": "year yr yrs", "decade": "decade", "century": "century centuries",
    "ml": "ml mL milliliter millilitre", "cl": "cl", "l": "liter litre", "gal": "gal gallon", "qt": "qt quart",
    "pt": "pint",
    "cup": "cup", "tbsp": "tbsp tablespoon", "tsp": "tsp teaspoon", "acre": "acre", "ha": "hectare",
    "dollar": "dollar usd USD buck", "cent": "cent", "euro": "euro eur EUR", "GBP": "GBP", "yen": "yen",
    "rupee": "rupee",
    "penny": "penny pennies pence", "deg": "degree deg", "rad": "radian rad", "celsius": "celsius",
    "fahrenheit": "fahrenheit",
    "percent": "percent", "N": "newton", "J": "joule kj kJ", "W": "watt", "kW": "kw kW kilowatt", "Hz": "hz Hz hertz",
    "V": "volt", "A": "ampere amp", "ohm": "ohm", "Pa": "pascal", "mol": "mol mole", "K": "kelvin",
    "mi/h": "mph", "km/h": "kph kmh",
    "rpm": "rpm", "cal": "cal calorie", "unit": "unit", "point": "point", "pixel": "pixel", "bit": "bit",
    "byte": "byte",
    "person": "person people persons", "child": "child children", "man": "man men", "woman": "woman women",
    "mouse": "mice",
    "fish": "fish", "sheep": "sheep", "tooth": "teeth", "goose": "geese", "time": "o'clock", "am": "am", "pm": "pm",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _NAMES.items() for word in words.split()}
_UNITS |= {f"{word}s": unit for word, unit in _UNITS.items() if len(word) > 2 and not word.endswith("s")}
# Only in \text{} or \mathrm{}, where no variable stands.
_UPRIGHT = {
    "m": "m",
    "g": "g",
    "s": "s",
    "h": "h",
    "L": "l",
    "l": "l",
    "N": "N",
    "J": "J",
    "W": "W",
    "V": "V",
    "A": "A",
}
_CURRENCIES = {"$": "dollar", "US$": "dollar", "€": "euro", "£": "GBP", "¥": "yen", "₹": "rupee", "¢": "cent"}
SCALES = {
    "hundred": Fraction(10**2), "thousand": Fraction(10**3), "k": Fraction(10**3), "K": Fraction(10**3),
    "million": Fraction(10**6), "M": Fraction(10**6), "mn": Fraction(10**6), "billion": Fraction(10**9),
    "B": Fraction(10**9), "bn": Fraction(10**9), "trillion": Fraction(10**12), "T": Fraction(10**12),
    "dozen": Fraction(12), "half": Fraction(1, 2), "halves": Fraction(1, 2), "third": Fraction(1, 3),
    "quarter": Fraction(1, 4), "fourth": Fraction(1, 4), "fifth": Fraction(1, 5), "sixth": Fraction(1, 6),
    "seventh": Fraction(1, 7), "eighth": Fraction(1, 8), "ninth": Fraction(1, 9), "tenth": Fraction(1, 10),
    "eleventh": Fraction(1, 11), "twelfth": Fraction(1, 12), "sixteenth": Fraction(1, 16), "twentieth": Fraction(1, 20),
    "hundredth": Fraction(1, 10**2), "thousandth": Fraction(1, 10**3), "millionth": Fraction(1, 10**6),
}  # fmt: skip
SCALES |= {f"{word}s": scale for word, scale in list(SCALES.items()) if len(word) > 2 and not word.endswith("s")}
_LETTERS_ONLY_AFTER_CURRENCY = frozenset({"k", "K", "M", "B", "T", "mn", "bn"})
_SHAPES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
# Where things are counted, said behind them: "16 students in the class".
_PLACE = re.compile(r"(?<=[a-z]s) (?:in|on|at|from) (?:the|a|an|his|her|their|its|this|that) [a-z]{3,}(?: [a-z]{4,})?")
_BETWEEN = word_set("per a an each every of the in")
_AFTER = word_set("left remaining total altogether overall more each long old high wide away old")
# Plurals, or what looks like one, that say something else than what is counted.
_NO_THING = word_set(
    "tens twos threes fours fives sixes sevens eights nines ones zeros times plus minus less is was has does this "
    "its as us thus yes always perhaps unless besides towards versus afterwards equals exceeds pairs couples "
    "scores grosses multiples powers logs roots squares cubes inverses negatives reciprocals doubles triples "
    "factorials bases digits modulus radius minuses opposites halfs percents thousandfolds cosines sines tangents "
    "logarithms exponents fails seems perils"
)
_CURRENCY = re.compile(r"^([-+]?)\s*(US\$|USD|EUR|GBP|\\?[$]|[€£¥₹])\s*(?=[-+]?[.\d])([-+]?)")
_CURRENCY_BEHIND = re.compile(r"(?<=\d)\s?(\\\$|[€£¥₹¢])$")
_POWER_IN_BRACES = re.compile(r"(?<=[A-Za-z])\s*\^\s*\{\s*([23])\s*\}$")
_FUNCTION_OF_ANGLE = re.compile(r"(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_UPRIGHT_TAIL = re.compile(
    r"\s*(?:\\[,;:! ]|~|\\quad)*\s*\\(?:text|textrm|textbf|textit|mathrm|mbox|operatorname|rm)\s*\{([^{}]*)\}"
    r"(?:\s*\^\s*\{?\s*([23])\s*\}?)?$"
)
_SIGN_TAIL = re.compile(
    r"\s*(?:\\?%|\\%|\^\s*\{?\s*\\circ\s*\}?|\\circ|\\degrees?|°)\s*(?:\\(?:text|mathrm)\s*\{\s*([CF])\s*\}|([CF]?))$"
)
_PLAIN_TAIL = re.compile(r"(?<=[\d})\s])\s*(?<![\\A-Za-z])([A-Za-z][A-Za-z'./ ^\d·*-]*)$")
_COMPOUND = re.compile(r"([A-Za-z]+)\s*(?:/|\s+per\s+)\s*(?:an?\s+)?([A-Za-z]+)(?:\s*\^?\s*\{?([23])\}?)?")


@dataclass(frozen=True)
class Quantity:
    """A number with what stands around it.

    Args:
        number (`str`): the text without unit and currency.
        scale (`Fraction`): what the number is to be multiplied by.
        unit (`str`): canonical name; empty without one.
        percent (`bool`): whether a percent sign follows.
    """

    number: str
    scale: Fraction = Fraction(1)
    unit: str = ""
    percent: bool = False


def split_unit(text: str, question_words: Collection[str] = ()) -> Quantity:
    """Split a text into its number and its unit; what is no unit stays where it is.

    Args:
        text (`str`): LaTeX signs instead of Unicode ones (`notation.as_latex`), without `$` around it.
        question_words (`Collection[str]`): words that may stand before a thing counted ("18 red apples").
    """
    text = text.strip().rstrip(".").strip() if not text.rstrip().lower().endswith(".m.") else text.strip()
    currency = ""
    if match := _CURRENCY.match(text):
        currency = _CURRENCIES.get(match.group(2).lstrip("\\"), "")
        text = match.group(1) + match.group(3) + text[match.end() :]
    elif match := _CURRENCY_BEHIND.search(text):
        return Quantity(text[: match.start()], unit=_CURRENCIES[match.group(1).lstrip("\\")])
    text = _POWER_IN_BRACES.sub(r"^\1", text)
    upright, power = False, ""
    if match := _SIGN_TAIL.search(text):
        sign, head = match.group(), text[: match.start()]
        if "%" in sign:
            return Quantity(head.strip(), unit=currency, percent=True)
        if _FUNCTION_OF_ANGLE.search(head):
            return Quantity(text)
        return Quantity(
            head.strip(), unit={"C": "celsius", "F": "fahrenheit"}.get(match.group(1) or match.group(2), "deg")
        )
    if match := _UPRIGHT_TAIL.search(text):
        upright, power = True, match.group(2) or ""
    else:
        match = _PLAIN_TAIL.search(text)
    if match is None or not text[: match.start()].strip():
        return Quantity(text, unit=currency)
    head, tail = text[: match.start()].strip(), match.group(1).strip()
    if (
        upright and (inner := _UPRIGHT_TAIL.search(head)) and inner.group(1).strip() in SCALES
    ):  # 3\text{ million}\text{ km}
        head, tail = head[: inner.start()].strip(), f"{inner.group(1).strip()} {tail}"
    found = _read(tail, power, upright, bool(currency), question_words)
    if found is None:
        return Quantity(text, unit=currency)
    scale, unit, percent = found
    if currency and unit and unit != currency and not unit.startswith("/"):
        return Quantity(text, unit=currency)
    return Quantity(head, scale, currency + unit if unit.startswith("/") else unit or currency, percent)


def _read(
    tail: str, power: str, upright: bool, currency: bool, question_words: Collection[str]
) -> tuple[Fraction, str, bool] | None:
    """The scale, the unit and whether it is a percentage; `None` when the words are neither."""
    tail = re.sub(
        r"\s+", " ", tail.replace("a.m", "am").replace("p.m", "pm").replace("A.M", "am").replace("P.M", "pm")
    ).strip(" .")
    tail = {"AM": "am", "PM": "pm"}.get(tail, tail)
    scale = Fraction(1)
    words = tail.split()
    if words and (words[0] in SCALES or (words[0].lower() in SCALES and len(words[0]) > 2)):
        if words[0] in _LETTERS_ONLY_AFTER_CURRENCY and not (upright or currency):
            return None
        scale = SCALES[words[0] if words[0] in SCALES else words[0].lower()]
        words = words[1:]
        if words[:1] == ["of"] and len(words) > 1:
            words = words[1:]
    if not words:
        return (scale, "", False) if not power else None
    if words in (["percent"], ["per", "cent"]):
        return scale, "", True
    unit = _unit(_counted(words, question_words), upright, question_words)
    if unit is None:
        return None
    return scale, f"{unit}^{power}" if power else unit, False


def _counted(words: list[str], question_words: Collection[str]) -> list[str]:
    """The words of a thing counted without where it is, and without what the question says a part is of."""
    if words[:1] == ["of"] and len(words) > 1 and words[-1] in question_words and words[-1] not in _NO_THING:
        return ["total"] if set(words[1:-1]) <= _BETWEEN else words
    if words[:1] == ["more"] and len(words) == 2 and _thing(words[1]):  # "16 more dollars"
        return words[1:]
    joined = " ".join(words)
    place = _PLACE.search(joined)
    if place is None or place.end() < len(joined) or not _thing(words[0]) or NUMBER_WORDS.search(joined):
        return words
    return words if set(words) & SCALES.keys() else joined[: place.start()].split()


def _unit(words: list[str], upright: bool, question_words: Collection[str]) -> str | None:
    joined = " ".join(words)
    if match := _COMPOUND.fullmatch(joined):
        top, bottom = (_one(word, upright=True) for word in match.group(1, 2))
        if top and bottom:
            return f"{top}/{bottom}" + (f"^{match.group(3)}" if match.group(3) else "")
    if match := re.fullmatch(r"([A-Za-z]+)\s?\^?([23])", joined):
        unit = _one(match.group(1), upright)
        return f"{unit}^{match.group(2)}" if unit else None
    while len(words) > 1 and words[-1] in _AFTER:
        words = words[:-2] if words[-2] == "in" and len(words) > 2 else words[:-1]
    if words in (
        ["in", "total"],
        ["in", "all"],
        ["each"],
        ["total"],
        ["left"],
        ["remaining"],
        ["altogether"],
        ["more"],
    ):
        return ""
    if words[0].lower() in ("per", "a", "an", "each", "every"):
        rest = [word for word in words[1:] if word not in _BETWEEN]
        found = [_one(word, upright) or _thing(word) for word in rest] or [None]
        return "" if all(found) else None  # "$18 per day" counts dollars
    parts: list[str] = []
    exponent = 0
    for word in words:
        if word.lower() in _SHAPES and not parts:
            exponent = _SHAPES[word.lower()]
        elif word in _BETWEEN and parts:
            parts.append("/")
        elif unit := _one(word, upright):
            parts.append(f"{unit}^{exponent}" if exponent and unit != "unit" else unit)
        elif thing := _thing(word):
            parts.append(thing)
        elif (
            word.lower() in question_words and word.lower() not in _NO_THING and len(word) > 2 and word is not words[-1]
        ):
            continue
        else:
            return None
    if not parts or parts[-1] == "/":
        return None
    return re.sub(r"/+", "/", "".join(parts if "/" in parts else parts[-1:]))


def _one(word: str, upright: bool) -> str | None:
    word = word.strip(".")
    if upright and word in _UPRIGHT:
        return _UPRIGHT[word]
    if len(word) == 1:
        return None
    return _UNITS.get(word) or (_UNITS.get(word.lower()) if len(word) > 3 else None)


def _thing(word: str) -> str | None:
    """What is counted: a plural of at least four letters."""
    lower = word.lower().strip(".")
    if len(lower) < 4 or not lower.endswith("s") or lower.endswith("ss") or lower in _NO_THING or lower in SCALES:
        return None
    return lower.removesuffix("s") if lower.isalpha() else None
