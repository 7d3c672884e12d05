"""What a text without a mark says: what its last sentence ends in.

Example: `He has 12 eggs. So each of the 3 gets 4 eggs.` says `4`; `So 60 is too much.` and `12 or 13` say no number.
"""

import re

from rewards.graders.math_phrases import (
    DOUBTFUL,
    ELSEWHERE,
    MAX_PHRASE_CHARS,
    SENTENCE_END,
    SPAN,
    in_prose,
    is_mathematics,
    is_quantity,
    predicate,
    right_side,
    said,
    words_of,
)
from rewards.graders.math_reading import readings_of
from rewards.graders.math_tokens import without_delimiters
from rewards.graders.notation import as_latex, word_set
from rewards.graders.number_words import NUMBER_WORDS

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?<=\d)%?")
_IS = re.compile(r"\b(?:is|are|was|were|equals|(?:must|will|would|should) be)\s+(?=\S)")
_DOES = re.compile(
    r"(?:(?:so|thus|hence|therefore|in total|altogether),? )?(?P<subject>[A-Z]\w*(?: [a-z]\w*){0,2}) "
    r"(?:has|have|had|sold|sells?|made|makes?|earned|earns?|paid|pays?|got|gets?|costs?|needs?|needed|spent|spends?|used|"
    r"uses?|gave|gives?|saved|saves?|bought|buys?|ate|eats?|takes?|took)(?: a total of| exactly| altogether)? "
    r"(?P<value>[$€£]?\d[\d,.]*(?: [a-z]+){0,2}?)"
    r"(?: (?:altogether|in total|in all|left|remaining|now|(?:every|each|per|a) (?:day|week|month|year|hour)))?"
    r"(?: (?:in|on|from|at) [A-Z]\w+(?: and [A-Z]\w+)?)?",
    re.IGNORECASE,
)
_CHOICES = re.compile(r"(?<![\w\\])\(?([A-J])\)\s*(?=\S)")
_ARROW = re.compile(r"^\s*[=-]+>\s*")
_BETWEEN_SPANS = re.compile(r"\s*(?:,|;|&|(?:,\s*)?\b(?:and|or)\b)\s*")
_SAYS = re.compile(
    r"\b(?:is|are|was|were|be|equals?|to|get|gets|have|has|makes|obtain|yields|gives|total(?:s|ing)?|"
    r"(?:probability|total|value|area|length|distance|cost|slope|radius|volume|perimeter) of)\b:?|(?<!\d):",
    re.IGNORECASE,
)
_INLINE_NUMBER = re.compile(r"\\\(\s*\d[\d,]*(?:\.\d+)?\s*\\\)|(?<![\\$])\$\d[\d,]*(?:\.\d+)?\$(?!\$)")
_INLINE_MONEY = re.compile(r"\\\(\s*\\?\$\s?(\d[\d,]*(?:\.\d+)?)\s*\\\)")
# "18 dollars every two days"
_PER_SEVERAL = re.compile(r"[^.;]{0,30}\b(?:every|per|each) (?:other|two|three|four|five|six|\d+)\b")
# `\text{Total} = 15 \times 3 = 45`
_LABELLED = re.compile(r"\s*(?:\\\[|\$\$?)?\s*\\text\s*\{[^{}]*\}\s*&?=")
_MAY = re.compile(r"\b(?:could|might|may)\s+(?:also\s+)?(?:be|equal)?$", re.IGNORECASE)
# "If it were 12": nobody says that it is.
_SUPPOSED = re.compile(r"\bif\b[^,;]*\bwere$", re.IGNORECASE)
# A sign that makes something else of the number to which it is joined: per mille, a stroke through it, a superscript.
_DRAWN_ON = re.compile("[‰‱⁰-₟²³¹¼½¾\\u0300-\\u036f\\u20d0-\\u20ff]")
_PART_OF_WORD = frozenset("%&@#")
# Where something is, or when: "at the point (2, -1)", "at 10:30".
_AT = re.compile(
    r"\b(?:points?|vertex|cent(?:er|re)|coordinates|pairs?|interval|vector)(?: is| are)? ([(\[][^()\[\]]{1,60}[)\]])$"
    r"|(?:at|until|by|from|is) (\d{1,2}:\d{2}(?:\s?[ap]\.?m\.?)?)$",
    re.IGNORECASE,
)
# "do it" is a product of variables only where something says that it is meant so.
_FORMAL = re.compile(r"[\d\\$]|[^\x00-\x7f]|\w\s*[-+*/^=<>]")
# What has a value of its own: "the remainder is 3" says 3, "the remainder 3" and "a third is 3" may not.
_SUBJECT = re.compile(
    r"\bthe (?:[a-z]+ )?(?:third|quarter|fifth|square|squared|cube|root|reciprocal|inverse|opposite|factorial|"
    r"logarithm|base|power|percent|percentage|remainder|double|triple|negative|formula|dozen|equation|line|rule)\b(?=[^,;]*\b(?:is|was|be|are)\b"
    r"[\s$*:(\\]*$)",
    re.IGNORECASE,
)
# "3 red and 4", "1 hour and 30", "2 feet 6": not the number alone.
_JOINED_NUMBER = re.compile(
    r"\d\S*(?:\s+[a-z]+){0,2}\s+(?:and|or|to|&)$|\d\s+(?:hours?|hrs?|minutes?|feet|foot|pounds?)$", re.IGNORECASE
)
_PART_OF = re.compile(r"[\d%})$]\s+of(?: the| a| an)?$")
# "The maximum is 9 when x = 3": under what condition is no part of what is said.
_CONDITION = re.compile(
    r",?\s+(?:(?:which is\s+)?(?:attained|achieved|reached|obtained|occurring)|when|where|if|with equality)\b[^=]*=.*$"
    r"|\s+for\s+\$?[a-zA-Z]\w?\s*=\s*[^\s=]+$"
)
_DIVISOR, _GIVEN_BY = re.compile(r"\bby$", re.I), re.compile(r"\b(?:given|denoted|bounded|represented) by$", re.I)
_DENIALS = word_set("not isn't wasn't aren't wrong incorrect")
_IS_TOO = re.compile(
    r"(?:is|are|was|were|would be|seems?)\s+(?:far |much |just )?(?:too|impossible|excluded|invalid)\b"
)
_ONE_OF = re.compile(r"\b(?:first|second|last|one|some|any|each|none|both) of(?: the)?$", re.IGNORECASE)
# What a sentence begins with before the formula that it is.
_CONJUNCTION = re.compile(
    r"(?:(?:and|so|thus|hence|therefore|then|now|finally|we (?:get|have|obtain|find))\b,?:?\s+)+", re.I
)
_UNSAFE_BEFORE, _UNSAFE_AFTER = frozenset("\\^_{/*+-×÷√∛±(=|<>≤≥≠·[:,"), frozenset("^/\\{!?*×÷√π([_=<>≤≥≠·°:")


def unmarked(text: str) -> str | None:
    """Return what a text without a mark says; a sentence that says nothing certain as a whole, `None` without any."""
    text = _ARROW.sub("", text)
    if 0 < len(text) <= MAX_PHRASE_CHARS and (is_mathematics(text) or ("\n" not in text and _is_words(text))):
        return predicate(text) or text
    text = _INLINE_NUMBER.sub(lambda found: found.group().strip(r"\()$ "), _INLINE_MONEY.sub(r"$\1", text))
    sentence = _last_sentence(text)
    if sentence is None:
        return None
    if _LABELLED.match(sentence):
        sentence = in_prose(without_delimiters(sentence))
    condition = _CONDITION.search(sentence)
    if condition and re.search(r"\d", sentence[: condition.start()]):
        sentence = sentence[: condition.start()]
    for phrase in _endings(sentence):
        if _FORMAL.search(phrase) and is_mathematics(phrase):
            return phrase
    numbers = list(NUMBER.finditer(sentence))
    if len(set(_CHOICES.findall(sentence))) > 1:
        return sentence
    if numbers and _stands_in_prose(sentence, numbers[-1]):
        return numbers[-1].group()
    return sentence


def in_sentence(sentence: str) -> str | None:
    """Return the value that a whole sentence tells: `72` of `The total is 72.` and `Ann sold 72 clips in May.`

    It is for sentences that are marked as the answer, and stricter than `unmarked`: nothing is left over but words of a
    closed list.
    """
    sentence = sentence.strip().rstrip(".").strip()
    if len(sentence) > MAX_PHRASE_CHARS or NUMBER_WORDS.match(sentence) or words_of(sentence) & ELSEWHERE:
        return None
    if (does := _DOES.fullmatch(sentence)) and not words_of(does["subject"]) & DOUBTFUL and is_quantity(does["value"]):
        return does["value"]
    says = next(reversed(list(_IS.finditer(sentence))), None)
    if says is None or _doubts(_last_clause(sentence[: says.end()])):
        return None
    value = said(sentence[says.end() :])
    return value if is_mathematics(value) else None


def _is_words(text: str) -> bool:
    return any(reading.node.op == "word" for reading in readings_of(text))


def _last_sentence(text: str) -> str | None:
    """The last sentence with a number or a formula."""
    for line in reversed(text.split("\n")):
        if len(line) > 2 * MAX_PHRASE_CHARS:
            line = line[-2 * MAX_PHRASE_CHARS :]
        for sentence in reversed(SENTENCE_END.split(line)):
            if re.search(r"\d|\$.+\$|\\[a-zA-Z(\[]", as_latex(sentence)):
                return sentence.strip()
    return None


def _endings(sentence: str) -> list[str]:
    """What a sentence may end in, the most telling first."""
    bare = sentence.rstrip("*. ") if not sentence.endswith(".m.") else sentence
    found = [phrase for phrase in (said(bare), right_side(bare)) if (phrase and phrase != bare) or is_mathematics(bare)]
    if begun := _CONJUNCTION.match(bare):
        found.append(bare[begun.end() :])
    spans = list(SPAN.finditer(bare))
    if spans:
        joined = _joined(bare, spans)
        before, rest = bare[: joined[0].start()], bare[spans[-1].end() :].strip(" .*")
        inner = ", ".join(next(group for group in span.groups() if group) for span in joined)
        if not _doubts(_last_clause(before)) and re.fullmatch(r"[\w\s/^]{0,40}", rest):
            found.append(f"{inner} {rest}".strip())
        return [phrase for phrase in found if phrase]
    if place := _AT.search(bare):
        found.append(place.group(1) or place.group(2))
    for says in reversed(list(_SAYS.finditer(bare))[-4:]):
        if not _doubts(_last_clause(bare[: says.end()])) and not _MAY.search(bare[: says.start()]):
            found.append(said(bare[says.end() :]))
    return [phrase for phrase in found if phrase]


def _joined(text: str, spans: list[re.Match[str]]) -> list[re.Match[str]]:
    """The last formula with those before it that a comma, "and" or "or" joins to it."""
    first = len(spans) - 1
    while first and _BETWEEN_SPANS.fullmatch(text[spans[first - 1].end() : spans[first].start()]):
        first -= 1
    return spans[first:]


def _doubts(clause: str) -> set[str]:
    """The words of a clause that leave open whether what follows it is the answer."""
    return words_of(_SUBJECT.sub("", clause)) & DOUBTFUL


def _last_clause(text: str) -> str:
    return re.split(r"[,;]\s|\bso\b|\bthus\b|\bthen\b", text)[-1]


def _stands_in_prose(sentence: str, number: re.Match[str]) -> bool:
    """Whether a number is a word among words: nothing mathematical beside it, no word that changes it."""
    before, after = sentence[: number.start()].rstrip(), sentence[number.end() :].lstrip()
    if _DRAWN_ON.match(sentence, number.end()) or sentence[number.start() - 1 : number.start()] in _PART_OF_WORD:
        return False
    if (before[-1:] in _UNSAFE_BEFORE and before) or (after[:1] in _UNSAFE_AFTER and after):
        return False
    if sentence[number.end() : number.end() + 1].isalpha() or _SUPPOSED.search(before[-MAX_PHRASE_CHARS:]):
        return False
    if (
        _JOINED_NUMBER.search(before[-MAX_PHRASE_CHARS:])
        or _PART_OF.search(before)
        or _ONE_OF.search(before[-MAX_PHRASE_CHARS:])
        or _MAY.search(before[-MAX_PHRASE_CHARS:])
        or _IS_TOO.match(after)
        or _PER_SEVERAL.match(after)
        or (_DIVISOR.search(before) and not _GIVEN_BY.search(before))
    ):
        return False
    clause = _SUBJECT.sub("", before[-MAX_PHRASE_CHARS:].lower())
    last, following = re.findall(r"[a-z']+", clause)[-3:], re.findall(r"[a-z']+", after.lower())[:3]
    doubtful = {*last, *following[:1], *(_DENIALS & set(following))} & DOUBTFUL
    return not doubtful and is_quantity(number.group())
