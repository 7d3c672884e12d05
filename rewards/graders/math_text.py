r"""Where the answer stands in a mathematical text.

Example: `She makes 9 * 2 = $18 a day.\nA: 18` -> `18`; `so \boxed{1\frac{1}{2}}` -> `1\frac{1}{2}`.

The answer is looked for in this order: the last `<answer>` tag, the last `\boxed{}` (and those that a comma or "and"
joins to it), the last `#### n` (GSM8K's own mark), the last "the answer is ...", the last line `A: n`, and without any
mark what the last sentence ends in. `math_phrases.py` says what a marked phrase says, and `math_sentences.py` what an
unmarked text does.
"""

import re

from rewards.graders.math_boxes import behind_boxes, last_boxed
from rewards.graders.math_phrases import CALCULATION, OPTION, in_prose, is_mathematics, predicate, said
from rewards.graders.math_sentences import NUMBER, in_sentence, unmarked
from rewards.graders.retraction import standing, takes_back
from rewards.graders.wrapping import ANSWER_TAG, without_object

# An answer is read from its end: this many characters are plenty.
MAX_TEXT_CHARS = 20_000

_MARK = re.compile(r"####[^\S\n]*(\S[^\n]*)")
_SENTENCE = re.compile(
    r"(?<!wrong )(?<!incorrect )(?<!false )\b(?:answer|option|choice)\s+is\b\s*(?::\s*)?([^\n]+)", re.IGNORECASE
)
_LABEL = re.compile(
    r"^[^\S\n]*\**(?:A|ans|(?:(?:the|my|our)\s+)?(?:(?:final|correct)\s+)*answer)\**\s*:\s*(\S[^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_EMPHASIS = re.compile(r"(?<![\w)*\\])(\*\*|__)(?=[^\s*_])([^*\n]{1,300}?)(?<=[^\s*])\1(?![\w(*])")
# A round number in groups of three; what else has such groups may be a list.
_SPACED = re.compile(r"(?<![\d.,])(?<!\d )\d{1,3}(?: \d{3})* 000(?![\d.,]*\d| \d)")
_END_MARK = re.compile(r"(?:\$?\\(?:blacksquare|square|qed)\$?|[∎□■✅✔✓☑]\ufe0f?|\bQ\.?E\.?D\.?)$")


def find_answer(text: str) -> str | None:
    """Find the final answer in a text, in the order that the module documents.

    Returns:
        `str` or `None` when the text has neither a mark nor a number. Never raises.
    """
    text = _END_MARK.sub("", without_object(text[-MAX_TEXT_CHARS:]).rstrip()).rstrip()
    text = _SPACED.sub(lambda number: number.group().replace(" ", ","), _EMPHASIS.sub(r"\2", text))
    if (marked := find_marked(text)) is not None:
        if tags := list(ANSWER_TAG.finditer(text)):
            return standing(marked, text[tags[-1].end() :])
        return standing(marked, behind_boxes(text))
    text = CALCULATION.sub("", text).strip()
    option = OPTION.fullmatch(text)
    return option.group(1) if option else unmarked(text)


def find_marked(text: str) -> str | None:
    """Find an answer that is marked as one; `None` when there is no mark or nothing in it."""
    if tags := ANSWER_TAG.findall(text):
        inner = str(tags[-1]).strip()
        boxed = last_boxed(inner)
        return (_held(boxed, boxed) if boxed else _held(inner, said(inner))) or None
    if (boxed := last_boxed(text)) is not None:
        return _held(boxed, boxed) or None
    phrases = [said(str(found[-1])) for found in (_MARK.findall(text),) if found]
    phrases += [_told(found[-1]) for pattern in (_SENTENCE, _LABEL) if (found := list(pattern.finditer(text)))]
    return next(filter(is_mathematics, phrases), phrases[0] or None) if phrases else None


def _held(content: str, otherwise: str) -> str:
    r"""What a tag or a box says: of a sentence in it, `\text{She has } 7 \text{ eggs.}`, the value that it tells."""
    prose = in_prose(content)
    if is_mathematics(content) or not re.search(r"[A-Za-z]{2}", prose):
        return otherwise
    if (word := predicate(prose)) is not None:
        return word
    return phrase if is_mathematics(phrase := said(prose)) else in_sentence(prose) or otherwise


def _told(match: re.Match[str]) -> str:
    """What the line of a mark says; all that stands from there on where that takes it back."""
    if takes_back(match.string[match.end() :]):
        return match.string[match.start(1) :].strip()
    line = match.group(1)
    if again := list(_SENTENCE.finditer(line)):
        last = said(again[-1].group(1))
        if is_mathematics(last):
            return last
    return said(line)


def numbers_in(text: str) -> list[str]:
    """Return the numbers of a text as they are written, in order."""
    return [match.group() for match in NUMBER.finditer(text)]


def lists_several(text: str) -> bool:
    """Whether a text that is no mathematics offers several answers: `12 or so, 18`, one on each line."""
    bare = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    return bool(re.search(r"\b(?:or|and|maybe|either)\b|[;|•]|\n\s*\S", bare, re.IGNORECASE)) or bool(
        re.search(r",(?!\d{3}(?!\d))", re.sub(r"\{,\}|\\,", "", bare))
    )
