"""English number words in digits.

Example: `seventy-two` is `72`, and `one two` is `1 2`: words that make no number together stay apart.
"""

import re

_UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
""".split()  # noqa: SIM905
_TENS = {
    word: 10 * (i + 2)
    for i, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
_SMALL = {word: i for i, word in enumerate(_UNITS)} | _TENS
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_WORD = rf"(?:{'|'.join(sorted([*_SMALL, 'hundred', *_SCALES], key=len, reverse=True))})"
_MAX_NUMBER = 10**30

NUMBER_WORDS = re.compile(rf"\b{_WORD}(?:(?:[\s-]+|[\s-]+and[\s-]+){_WORD})*\b", re.IGNORECASE)

_SIGN = re.compile(r"(?:minus|negative)\s+", re.IGNORECASE)
_ONE = re.compile(
    r"(?:an?\s+)?(?=half$)|an?\s+(?=(?:half|third|quarter|dozen|hundred|thousand|[mb]illion)\b)", re.IGNORECASE
)
_AND_PART = re.compile(
    rf"((?:minus|negative)\s+|-)?(\d{{1,9}}|{_WORD}(?:[\s-]+{_WORD})*)\s+and\s+(?:an?|one)[\s-]+(half|third|quarter|fourth)\b",
    re.IGNORECASE,
)
_PART_DIVISORS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4}
_HALF_A = re.compile(r"half\s+an?\s+(?=(?:dozen|hundred|thousand|[mb]illion)\b)", re.IGNORECASE)
_NO_SUM = re.compile(r"\d[^-=+*/^()\\]*")
_PART_BEHIND = re.compile(r"^-(?=(?:hal(?:f|ves)|quarters?|thirds?|(?:four|fif|six|seven|eigh|nin|ten)ths?)\b)")


def digits_of(words: str) -> str:
    """Return what `NUMBER_WORDS` has matched in digits, several numbers with spaces between; too large ones stay."""
    numbers: list[int] = []
    total, current, last = 0, 0, 0
    started = False
    for word in re.findall(r"[a-z]+", words.lower()):
        if word == "and":
            continue
        value = _SMALL.get(word)
        if value is not None and started and not ((current % 100 == 0 and last >= 100) or (last >= 20 and value < 10)):
            numbers.append(total + current)
            total, current = 0, 0
        if value is not None:
            current, last = current + value, value
        elif word == "hundred":
            current, last = max(1, current) * 100, 100
        else:
            total, current, last = total + max(1, current) * _SCALES[word], 0, _SCALES[word]
        started = True
        if total + current > _MAX_NUMBER:
            return words
    return " ".join(map(str, [*numbers, total + current]))


def begun_in_digits(text: str) -> str:
    """Return a text that begins with one number in words with that number in digits; any other as it is.

    `five apples` is `5 apples`, `two-thirds` is `2 thirds`, `a half` is `1 half`, `minus five` and `minus 5` are `-5`,
    `three and a half` is `3 1/2`, `half a dozen` is `0.5 dozen`.

    `five or six`, `one-to-one`, `five six` and `one` alone, a pronoun more often than a number, stay as they are.
    """
    text = _with_part(_HALF_A.sub("0.5 ", text, count=1) if _HALF_A.match(text) else text)
    text = _ONE.sub("1 ", text, count=1) if _ONE.match(text) else text
    sign = _SIGN.match(text)
    if sign and _NO_SUM.fullmatch(text, sign.end()):
        return f"-{text[sign.end() :]}"
    match = NUMBER_WORDS.match(text, sign.end() if sign else 0)
    if match is None or text.strip().lower() == "one":
        return text
    number, rest = digits_of(match.group()), _PART_BEHIND.sub(" ", text[match.end() :])
    if not number.isdigit() or re.match(r"-|\s*(?:and|or|to)\b", rest):
        return text
    return f"{'-' if sign else ''}{number}{rest}"


def _with_part(text: str) -> str:
    """`3 and a half hours` as `3 1/2 hours`; any other text as it is."""
    match = _AND_PART.match(text)
    number = digits_of(match[2]) if match and not match[2].isdigit() else match[2] if match else ""
    if match is None or not number.isdigit():
        return text
    return f"{'-' if match[1] else ''}{number} 1/{_PART_DIVISORS[match[3].lower()]}{text[match.end() :]}"
