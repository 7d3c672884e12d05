"""Numbers that are shown instead of written: strokes to count.

Example: `tallies("Count the strokes: |||||||")` has 7; `"Count the steps.\\n-------"`, a line below a sentence, and
`"Answer: XXXX"`, a place to fill, have none.
"""

import re
from collections.abc import Iterator

# Three of a sign are an ornament or a place to fill.
MIN_SIGNS = 4
_GAP = r"[ \t,+]{0,3}"
_SIGNS = rf"(?<!\w)(?P<sign>[^\s\w,+]|[A-Za-z1])(?:{_GAP}(?P=sign)){{{MIN_SIGNS - 1},}}(?!\w)"
_LINES = rf"(?P<line>\S)(?:\n[ \t]*(?P=line)){{{MIN_SIGNS - 1},}}(?=\s*(?:\n|$))"
_WORDS = rf"\b(?P<word>[^\W\d_]{{2,15}})(?:[ \t,]{{1,3}}(?P=word)\b){{{MIN_SIGNS - 1},}}"
_COUNT = (
    r"\b(?:count|counting|tally|tallies|how many|number of|how often|length of|unary|add(?: \w+)? up|sum of|convert)\b"
)
_COUNTED = re.compile(
    rf"(?P<asked>{_COUNT}[^.!\n]{{0,60}}?)\s*(?:{_SIGNS}|{_WORDS})|{_COUNT}[^.!\n]{{0,60}}\n\s*{_LINES}", re.IGNORECASE
)
_STATED = re.compile(
    r"\b(?:answer|result|total|reply|respond|say|output)\b[\w\s:=]{0,20}?(?P<signs>(?:[|][ \t,]{0,2}){4,})", re.I
)
# What lines and emphasis are made of counts only where it is named.
_TYPOGRAPHY = frozenset("-=_*#~.`")
_NAMED = re.compile(
    r"\b(?:dots?|periods?|stars?|asterisks?|dashes|dash|hyphens?|hash(?:es)?|signs?|marks?|symbols?|strokes?|characters?|"
    r"bars?|underscores?|points?|ticks?|tildes?)\b",
    re.IGNORECASE,
)


def tallies(text: str) -> Iterator[int]:
    """Yield how many equal signs, lines or words a text shows where it asks for their number.

    Args:
        text (`str`): what a workflow wrote into an operator's arguments.
    """
    for match in _COUNTED.finditer(text):
        item = match["sign"] or match["line"] or match["word"]
        shown = match.group()[len(match["asked"] or "") :]
        if item in _TYPOGRAPHY and match["line"] is None and not _NAMED.search(match["asked"]):
            continue
        yield len(re.findall(rf"\b{re.escape(item)}\b" if match["word"] else re.escape(item), shown))
    for match in _STATED.finditer(text):
        yield match["signs"].count("|")
