r"""Where the answer stands in a mathematical text.

Example: `She makes 9 * 2 = $18 a day.\nA: 18` -> `18`; `so \boxed{1\frac{1}{2}}` -> `1\frac{1}{2}`.

The answer is looked for in this order: the last `<answer>` tag, the last `\boxed{}` (and those that a comma or "and"
joins to it), the last `#### n` (GSM8K's own mark), the last "the answer is ...", the last line `A: n`, and without any
mark what the last sentence ends in: a formula, the right side of an equation, what follows "is", a number in prose. Of
a phrase only a number between harmless words is taken: "not 5", "half of 2" and "cos 30" are not their numbers.
"""

import re

from rewards.graders.math_boxes import behind_boxes, last_boxed, operand
from rewards.graders.math_nodes import Node
from rewards.graders.math_reading import readings_of
from rewards.graders.math_steps import worked_out
from rewards.graders.notation import as_latex, word_set
from rewards.graders.retraction import standing, takes_back
from rewards.graders.wrapping import ANSWER_TAG, without_object

# An answer is read from its end: this many characters are plenty.
MAX_TEXT_CHARS = 20_000
MAX_PHRASE_CHARS = 400

_MARK = re.compile(r"####[^\S\n]*(\S[^\n]*)")
_SENTENCE = re.compile(
    r"(?<!wrong )(?<!incorrect )(?<!false )\b(?:answer|option|choice)\s+is\b\s*(?::\s*)?([^\n]+)", re.IGNORECASE
)
_LABEL = re.compile(
    r"^[^\S\n]*\**(?:A|ans|(?:(?:the|my|our)\s+)?(?:(?:final|correct)\s+)*answer)\**\s*:\s*(\S[^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
# A text that is emphasised, or an option, and nothing else.
_EMPHASIS = re.compile(r"(\*\*|__)([^*_\n]{1,100})\1\.?")
_OPTION = re.compile(r"(?i:(?:the )?(?:option|choice)) \(?([A-J])\)?\.?")
_CHOICE_AND_REASON = re.compile(r"\(?([A-J])\)?,?\s+(?:because|since)\b(.*)")
_CHOICES = re.compile(r"(?<![\w\\])\(?([A-J])\)\s*(?=\S)")
# A round number in groups of three; what else has such groups may be a list.
_SPACED = re.compile(r"(?<![\d.,])(?<!\d )\d{1,3}(?: \d{3})* 000(?![\d.,]*\d| \d)")
_AS_ASKED = re.compile(
    r",? as (?:required|desired|claimed|needed|expected|wanted|stated|asked)$"
    r"|,? as (?:shown|seen|given|computed|calculated|found|derived|stated)(?: above| before| earlier)?$"
    r"|\s+\((?:reduced|simplified|exact|exactly|total|in total|in (?:lowest|simplest|reduced) (?:terms|form))\)$"
)
_END_MARK = re.compile(r"(?:\$?\\(?:blacksquare|square|qed)\$?|[∎□■✅✔✓☑]\ufe0f?|\bQ\.?E\.?D\.?)$")
_ARROW = re.compile(r"^\s*[=-]+>\s*")
# "twelve (12)"
_SAID_TWICE = re.compile(r"([^()]{1,60}?)\s*\(([^()]{1,60})\)")
_CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's calculator annotations

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?<=\d)%?")
_SPAN = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BETWEEN_SPANS = re.compile(r"\s*(?:,|;|&|(?:,\s*)?\b(?:and|or)\b)\s*")
_SENTENCE_END = re.compile(r"(?:(?<=[\w)}%$*\]])|(?<=[a-z]))[.!?]\**\s+(?=[A-Z\\$*])")
_SAYS = re.compile(
    r"\b(?:is|are|was|were|be|equals?|to|get|gets|have|has|makes|obtain|yields|gives|total(?:s|ing)?|"
    r"(?:probability|total|value|area|length|distance|cost|slope|radius|volume|perimeter) of)\b:?|(?<!\d):",
    re.IGNORECASE,
)

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
_WORD_AND_BANG = re.compile(r"(?<=[a-z])!+$")
_REASON = re.compile(r"(?<=[\d})$%])\s+\((?:by|since|because|as|from|using|via|after)\b([^()]*)\)$")

_BECAUSE = re.compile(r"(?<=[\d})$%])\s+(?:since|because)\b(.*)$")

# Words before a number that leave it what it is.
_HARMLESS = word_set(
    "he she it they we i you there this that these those here so thus hence therefore then now in all the a an is "
    "are was were be will would has have had make makes made earn earns earned pay pays paid get gets got cost "
    "costs need needs spend spends spent sell sells sold use uses used give gives gave leave leaves left answer "
    "final result total value number equals equal exactly just only simply of which means must should can amount "
    "sum comes to at for definitely certainly clearly indeed"
)
# Words that make something else of a number, take it back or leave it open.
_DOUBTFUL = word_set(
    "not no never nor isn't wasn't aren't cannot can't won't twice thrice double doubled triple tripled quadruple "
    "half halved third quarter fifth minus plus times negative square squared cube cubed root reciprocal inverse "
    "opposite factorial logarithm log ln sin cos tan less more fewer under over above below between least most "
    "about around approximately nearly almost roughly except other rather instead without wrong incorrect false "
    "unless if or either maybe perhaps possibly modulo mod base power percent dozen than rule ruled choose doubt "
    "off exclude excluding guess probably suppose presumably impossible fails undefined invalid contradiction "
    "case figure fig method step question equation part example table problem remainder theorem lemma proposition "
    "corollary definition section chapter page line exercise axiom formula property depends depend depending"
)
# What has a value of its own: "the remainder is 3" says 3, "the remainder 3" and "a third is 3" may not.
_SUBJECT = re.compile(
    r"\bthe (?:[a-z]+ )?(?:third|quarter|fifth|square|squared|cube|root|reciprocal|inverse|opposite|factorial|"
    r"logarithm|base|power|percent|percentage|remainder|double|triple|negative|formula|dozen)\b(?=[^,;]*\b(?:is|was|be|are)\b"
    r"[\s$*:(\\]*$)",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"\b(?:no|not|wait|actually|or|alternatively|but|maybe|perhaps|else|otherwise|rather|instead|wrong|oops)\b", re.I
)
# "3 red and 4", "1 hour and 30", "2 feet 6": not the number alone.
_JOINED_NUMBER = re.compile(
    r"\d\S*(?:\s+[a-z]+){0,2}\s+(?:and|or|to|&)$|\d\s+(?:hours?|hrs?|minutes?|feet|foot|pounds?)$", re.IGNORECASE
)
_PART_OF = re.compile(r"[\d%})$]\s+of(?: the| a| an)?$")
# "x = 2, y" before "= 5", which is one of two values; "when x = 2, y = 5" tells one.
_ONE_OF_SEVERAL = re.compile(
    r"^(?!.*\b(?:when|if|for|at|since|as|with)\b).*=[^=,]+,\s*(?:and\s+)?[a-zA-Z]\w*\s*$", re.DOTALL
)
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


def find_answer(text: str) -> str | None:
    """Find the final answer in a text, in the order that the module documents.

    Returns:
        `str` or `None` when the text has neither a mark nor a number. Never raises.
    """
    text = _END_MARK.sub("", without_object(text[-MAX_TEXT_CHARS:]).rstrip()).rstrip()
    text = _SPACED.sub(lambda number: number.group().replace(" ", ","), text)
    if (marked := find_marked(text)) is not None:
        if tags := list(ANSWER_TAG.finditer(text)):
            return standing(marked, text[tags[-1].end() :])
        return standing(operand(text) or marked, behind_boxes(text))
    text = _CALCULATION.sub("", text).strip()
    whole = _EMPHASIS.fullmatch(text) or _OPTION.fullmatch(text)
    return _unmarked(whole.groups()[-1].strip() if whole else text)


def find_marked(text: str) -> str | None:
    """Find an answer that is marked as one; `None` when there is no mark or nothing in it."""
    if tags := ANSWER_TAG.findall(text):
        inner = str(tags[-1]).strip()
        return last_boxed(inner) or said(inner) or None
    if (boxed := last_boxed(text)) is not None:
        return boxed or None
    phrases = [said(str(found[-1])) for found in (_MARK.findall(text),) if found]
    phrases += [_told(found[-1]) for pattern in (_SENTENCE, _LABEL) if (found := list(pattern.finditer(text)))]
    return next(filter(is_mathematics, phrases), phrases[0] or None) if phrases else None


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


def is_mathematics(text: str) -> bool:
    """Whether a text can be read, and without English words."""
    return any(not _has_words(reading.node) for reading in readings_of(text))


def _has_words(node: Node) -> bool:
    return node.op == "word" or any(map(_has_words, node.args))


def said(phrase: str) -> str:
    """Return what a marked phrase says: its number when it is one between harmless words, else all of it."""
    phrase = _WORD_AND_BANG.sub("", _CALCULATION.sub("", phrase).strip().strip("*`").strip())
    if (reason := _REASON.search(phrase)) and not _RETRACTION.search(reason.group(1)):
        phrase = phrase[: reason.start()]
    if (because := _BECAUSE.search(phrase)) and not _RETRACTION.search(because.group(1)):
        phrase = phrase[: because.start()] if readings_of(phrase[: because.start()]) else phrase
    if not phrase.endswith(".m."):
        phrase = phrase.rstrip(".,;").strip().strip("*`").strip()
    phrase = _AS_ASKED.sub("", phrase)
    if option := _OPTION.fullmatch(phrase):
        return option.group(1)
    if (twice := _SAID_TWICE.fullmatch(phrase)) and _same_number(*twice.groups()):
        return twice.group(1)
    if (reason := _CHOICE_AND_REASON.fullmatch(phrase)) and not _RETRACTION.search(reason.group(2)):
        return reason.group(1)
    if len(phrase) > MAX_PHRASE_CHARS or readings_of(phrase):
        return phrase
    found = _formula(phrase) or _result(phrase) or _number_in_words(phrase) or worked_out(phrase)
    return found or _first_sentence(phrase) or phrase


def _same_number(left: str, right: str) -> bool:
    """Whether both are one number, in words or digits."""
    one, other = ({reading.number for reading in readings_of(text)} for text in (left, right))
    return len(one) == 1 and None not in one and one == other


def _formula(phrase: str) -> str | None:
    """The formula of a phrase that has one, with the unit behind it and only harmless words before it."""
    spans = list(_SPAN.finditer(phrase))
    if not spans or not _harmless(phrase[: spans[0].start()]):
        return None
    inner = next(group for group in spans[0].groups() if group)
    rest = phrase[spans[0].end() :].strip()
    if (end := re.match(r"[.!]\**\s+(?=[A-Z])", rest)) and not _RETRACTION.search(rest) and len(spans) == 1:
        rest = rest[: end.start()]
    rest = rest.strip("*. ")
    whole = inner if not rest else f"{inner} {rest}"
    return whole if is_mathematics(inner) and (not rest or _has_unit(whole)) else None


def _has_unit(text: str) -> bool:
    """Whether all of a text is a number with its unit."""
    return any(reading.number is not None for reading in readings_of(text))


def _result(phrase: str) -> str | None:
    """The right side of a last equation, if it is a number."""
    left, sign, right = phrase.rpartition("=")
    if not sign or _words(left) & _DOUBTFUL or re.search(r"[<>!]$", left) or _ONE_OF_SEVERAL.search(left):
        return None
    return right.strip() if _has_unit(right) else None


def _number_in_words(phrase: str) -> str | None:
    match = re.match(r"([^\d$\\.+-]*)(.+)$", phrase, re.DOTALL)
    if match is None:
        return None
    before, rest = match.group(1).split(), match.group(2)
    if before and before[-1].lower() in ("negative", "minus") and rest[0].isdigit() and "=" not in rest:
        before, rest = before[:-1], f"-{rest}"
    if not _harmless(" ".join(before)) or not _has_unit(rest):
        return None
    return rest


def _harmless(before: str) -> bool:
    words = re.findall(r"[^\s,:;*\"']+", before)
    if len(words) > 1 and words[0][:1].isupper() and words[0].lower() not in _DOUBTFUL:
        words = words[1:]  # somebody's name
    return all(word.lower() in _HARMLESS for word in words)


def _first_sentence(phrase: str) -> str | None:
    """What the first of several sentences says, unless a later one takes it back."""
    end = _SENTENCE_END.search(phrase)
    if end is None or _RETRACTION.search(phrase[end.end() :]):
        return None
    first = said(phrase[: end.start()])
    return first if is_mathematics(first) else None


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


# Without a mark


def _unmarked(text: str) -> str | None:
    text = _ARROW.sub("", text)
    if 0 < len(text) <= MAX_PHRASE_CHARS and (is_mathematics(text) or ("\n" not in text and _is_words(text))):
        return text
    sentence = _last_sentence(text)
    if sentence is None:
        return None
    condition = _CONDITION.search(sentence)
    if condition and re.search(r"\d", sentence[: condition.start()]):
        sentence = sentence[: condition.start()]
    for phrase in _endings(sentence):
        if _FORMAL.search(phrase) and is_mathematics(phrase):
            return phrase
    numbers = list(_NUMBER.finditer(sentence))
    if len(set(_CHOICES.findall(sentence))) > 1:
        return sentence
    if numbers and _stands_in_prose(sentence, numbers[-1]):
        return numbers[-1].group()
    return sentence


def _is_words(text: str) -> bool:
    return any(reading.node.op == "word" for reading in readings_of(text))


def _last_sentence(text: str) -> str | None:
    """The last sentence with a number or a formula."""
    for line in reversed(text.split("\n")):
        if len(line) > 2 * MAX_PHRASE_CHARS:
            line = line[-2 * MAX_PHRASE_CHARS :]
        for sentence in reversed(_SENTENCE_END.split(line)):
            if re.search(r"\d|\$.+\$|\\[a-zA-Z(\[]", as_latex(sentence)):
                return sentence.strip()
    return None


def _endings(sentence: str) -> list[str]:
    """What a sentence may end in, the most telling first."""
    bare = sentence.rstrip("*. ") if not sentence.endswith(".m.") else sentence
    found = [phrase for phrase in (said(bare), _result(bare)) if (phrase and phrase != bare) or is_mathematics(bare)]
    if begun := _CONJUNCTION.match(bare):
        found.append(bare[begun.end() :])
    spans = list(_SPAN.finditer(bare))
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
        if not _doubts(_last_clause(bare[: says.end()])):
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
    return _words(_SUBJECT.sub("", clause)) & _DOUBTFUL


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
        or _IS_TOO.match(after)
        or (_DIVISOR.search(before) and not _GIVEN_BY.search(before))
    ):
        return False
    clause = _SUBJECT.sub("", before[-MAX_PHRASE_CHARS:].lower())
    last, following = re.findall(r"[a-z']+", clause)[-3:], re.findall(r"[a-z']+", after.lower())[:3]
    doubtful = {*last, *following[:1], *(_DENIALS & set(following))} & _DOUBTFUL
    return not doubtful and _has_unit(number.group())


def numbers_in(text: str) -> list[str]:
    """Return the numbers of a text as they are written, in order."""
    return [match.group() for match in _NUMBER.finditer(text)]


def lists_several(text: str) -> bool:
    """Whether a text that is no mathematics offers several answers: `12 or so, 18`, one on each line."""
    bare = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    return bool(re.search(r"\b(?:or|and|maybe|either)\b|[;|•]|\n\s*\S", bare, re.IGNORECASE)) or bool(
        re.search(r",(?!\d{3}(?!\d))", re.sub(r"\{,\}|\\,", "", bare))
    )
