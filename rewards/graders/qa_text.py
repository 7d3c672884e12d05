r"""Where a short answer stands in a text, and what its tokens are worth.

Example: `Answer: Oslo\n\nExplanation: ...` is `Oslo`; `.5` and `0.50` are one value, `1.5` and `15` two.

The official metrics drop every punctuation mark, so "1.5" is "15", "C++" is "C" and "-5" is "5" to them. A reward must
not: `values` says what the marks decide.
"""

import re
from fractions import Fraction

from rewards.graders.notation import tidy
from rewards.graders.number_words import begun_in_digits
from rewards.graders.retraction import standing, takes_back
from rewards.graders.wrapping import ANSWER_TAG, without_object

MAX_ANSWER_CHARS = 4_000

_NOT_WRONG = r"(?<!wrong )(?<!incorrect )(?<!false )"
_FINAL = re.compile(
    rf"{_NOT_WRONG}\bfinal\s+answer(?:\s+is)?\s*[:\-]\s*([^\n]+)|\bfinal\s+answer\s+is\s+([^\n]+)", re.IGNORECASE
)
_LABEL = re.compile(r"^[#*\s]*(?:A|(?:the\s+)?answer)\**\s*:\**[^\S\n]*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_SENTENCE = re.compile(
    rf"{_NOT_WRONG}\banswer(?:\s+is)?\s*[:=\-]\s*([^\n]+)"
    rf"|{_NOT_WRONG}\banswer(?:\s+to\s+(?:the|this|your)\s+question)?\s+is\s+([^\n]+)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^[#*\s]*(?:final\s+)?answer[*:\s]*\n([^\n]+)", re.IGNORECASE | re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})+)\}")
_FENCE = re.compile(r"(```|''')[a-z]*[^\S\n]*\n(.*?)\n?\1", re.DOTALL)  # `tidy` makes quotes of some
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|emph)\s*\{([^{}]*)\}")
_EXPLANATION = re.compile(
    r"(?<=[\w)\"'*])[.;,]?\**\s+(?=(?:Explanation|Reason(?:ing)?|Because|This is|That is because|Since|According to|"
    r"As stated|I hope|Note that|Source)\b)"
    r"|[.;,]?\s+(?=because (?:the|this) (?:passage|text|context|article|document|paragraph)\b)"
    r"|\s+(?=\((?:source|see|from|according to|per)\b[^()]*\)\.?$)"
)
_TICK = re.compile(r"\s*[✅✔✓☑]$")
_EXPLAINED_BELOW = re.compile(r"\n\s*[#*]*(?:Explanation|Reason(?:ing)?|Justification|Because|Evidence)\b")
_DOTTED = re.compile(r"(?<![\w.])\d+(?:\.\d+){2,}(?![\w.]*\w)")
_NUMBER = re.compile(r"(?:(?<![\w.)-])-\s?)?(?<![\w.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?<=\d)")
_MARKED_LETTERS = re.compile(r"(?<!\w)(?:\w*[A-Za-z]\w*(?:\+{1,2}|#{1,2})|(?:[A-Za-z]{1,2}|[A-Za-z]+\d\w*)-)(?![\w+#])")
# What makes another value of two numbers or of a number and a letter: 1/2, 1:2, 1-2, x < 5.
_STRUCK = re.compile(r"~~|!=?\s*\w|<>|<s>|<del>|=/=|/=")
_HOW_MANY = r"\bhow (?:many|much) (?:more |fewer |less |total |different )*"
_NAMES = ["january", "february", "march", "april", "may", "june", "july", "august"]
_NAMES += ["september", "october", "november", "december"]
_MONTHS = {form: number for number, name in enumerate(_NAMES, 1) for form in (name, name[:3])} | {"sept": 9}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DAY, _YEAR = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?:,? (?P<year>\d{4}))?"
_DATES = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_DAY} (?:of )?{_MONTH}{_YEAR}",
        rf"{_MONTH} (?:the )?{_DAY}{_YEAR}",
        r"(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>\d\d)",
    )
)
_OPEN_NUMBER, _SIGNED_NUMBER = re.compile(r"(?<=\d)\s?\+(?!\s?[\w.+])"), re.compile(r"(?<=\d)\s?(?:%|\+(?!\s?[\w.+]))")
_MARK_BETWEEN = re.compile(
    r"(?<=\d)\s?([/:×*^-])\s?(?=\d)|(?<=\w)\s?([<>=≤≥≠]+)\s?(?=[\w-])|(?<![\w<>~])([<>≤≥≠~≈]=?)\s?(?=\d)"
)
_CURRENCY = re.compile(r"[$€£¥₹](?=\s?\d)|(?<=\d)\s?([€£¥₹])")


def extract_answer(text: str) -> str:
    r"""Return what is marked as the answer, else the whole text, with its typography in ASCII.

    A mark is the last `<answer>` tag, the last `\boxed{}`, then "final answer", a line "Answer:", "the answer is", or a
    heading "Answer"; inside a tag likewise. An explanation behind it does not belong to it.
    """
    text = _TICK.sub("", without_object(tidy(text[-MAX_ANSWER_CHARS:])).strip())
    rest = ""
    if tags := list(ANSWER_TAG.finditer(text)):
        text, rest = tags[-1].group(1).strip(), text[tags[-1].end() :]
    return standing(_said(text), rest)


def _said(text: str) -> str:
    if boxed := list(_BOXED.finditer(text)):
        return standing(_marked(_WRAPPER.sub(r"\1", boxed[-1].group(1)).strip()), text[boxed[-1].end() :])
    return _marked(text)


def _marked(text: str) -> str:
    """What stands behind the words or the heading that announce an answer; all of a text without any."""
    if fenced := _FENCE.fullmatch(text):
        text = fenced.group(2).strip()
    for pattern in (_FINAL, _LABEL, _SENTENCE, _HEADING):
        if found := list(pattern.finditer(text)):
            line = next(filter(None, found[-1].groups())).strip()
            said = _EXPLANATION.split(line)[0].strip("* ")
            if said:
                rest = line[len(said) :] + text[found[-1].end() :]
                return f"{said}\n{rest}" if takes_back(rest) else said
    said, *rests = _EXPLAINED_BELOW.split(text)
    return said.strip() if said.strip() and not any(map(takes_back, rests)) else text


def values(text: str) -> tuple[tuple[Fraction, ...], tuple[str, ...]]:
    """Return the numbers of a text in order, with sign and point, and what else its marks decide.

    That is letters with a sign (`C++`, `A-`, `F#`), marks between two numbers (`1/2`), relations (`x < 5`) and numbers
    with several points (`192.168.0.1`).
    """
    text = tidy(text)
    numbers = tuple(_value(match.group()) for match in _NUMBER.finditer(text))
    marks = [next(filter(None, match.groups())) for match in _MARK_BETWEEN.finditer(text)]
    return numbers, (*(match.lower() for match in _MARKED_LETTERS.findall(text)), *marks, *_DOTTED.findall(text))


def adds_sign(text: str, other: str, question: str) -> bool:
    """Whether a text has signs that make something else of a number, `7%` or `7+`, and the other has not; or asks.

    A percent sign adds nothing where the question asks for percents.
    """
    signs = _OPEN_NUMBER if asks_percents(question) else _SIGNED_NUMBER
    return len(signs.findall(text)) > len(signs.findall(other)) or (
        text.rstrip(" *_\"'").endswith("?") and not other.rstrip().endswith("?")
    )


def currencies(text: str) -> set[str]:
    """Return the signs of currencies that stand at numbers."""
    return {match.group().strip() for match in _CURRENCY.finditer(text)}


def strikes_out(text: str) -> bool:
    """Whether a text is struck through, or denied by a sign before it: `~~Oslo~~`, `!= Oslo`."""
    return _STRUCK.match(text.lstrip(" *_\"'`(")) is not None


def asks_percents(question: str) -> bool:
    """Whether a question asks for percents."""
    return "percent" in question.lower() or "%" in question


def _value(text: str) -> Fraction:
    bare = text.replace(",", "").replace(" ", "")
    # Python reads no more than some thousand digits at once.
    return Fraction(bare) if len(bare) < 4_000 else Fraction(hash(bare))


def number_alone(text: str) -> Fraction | None:
    """Return the value of a text that is one number and nothing else; `None` for any other."""
    match = _NUMBER.fullmatch(tidy(text).strip().strip("*\"'").rstrip(".").lstrip("$€£").strip())
    return _value(match.group()) if match else None


def number_said(text: str, question: str) -> Fraction | None:
    """Return the value of a text that is one number, in digits or words, perhaps with what the question counts.

    Args:
        text (`str`): `3`, `three`, `three touchdowns` where the question is how many touchdowns, `5 percent` where it
            asks for percents.
        question (`str`): of the problem.
    """
    text = begun_in_digits(tidy(text).strip().strip("*\"'").rstrip("."))
    if asks_percents(question):
        text = re.sub(r"\s*(?:%|percent)$", "", text)
    if match := re.fullmatch(r"(\S+) ([A-Za-z][A-Za-z -]{0,40})", text):
        counted = re.search(rf"{_HOW_MANY}{re.escape(match.group(2))}\b", question, re.IGNORECASE)
        text = match.group(1) if counted else text
    return number_alone(text)


def date_alone(text: str) -> tuple[int, int, str | None] | None:
    """Return month, day and year of a text that is one date: `12 May 1990`, `1990-05-12`; `None` for any other."""
    text = " ".join(tidy(text).strip(" .*\"'").split())
    match = next(filter(None, (form.fullmatch(text) for form in _DATES)), None)
    if match is None:
        return None
    month = match["month"].lower()
    return int(month) if month.isdigit() else _MONTHS[month], int(match["day"]), match["year"]
