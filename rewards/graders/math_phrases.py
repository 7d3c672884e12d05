"""What a marked phrase says: the formula or the number between harmless words, else all of it.

Example: `The final answer is 18 eggs.` says `18 eggs`; of `not 5`, `half of 2` and `cos 30` nothing is taken.
"""

import re

from rewards.graders.math_compare import equal_numbers
from rewards.graders.math_nodes import Node
from rewards.graders.math_reading import readings_of
from rewards.graders.math_steps import worked_out
from rewards.graders.notation import word_set
from rewards.graders.number_words import NUMBER_WORDS

OPTION = re.compile(
    r"(?i:(?:the )?(?:(?:correct|right|best|final) )?(?:option|choice|answer)(?: is)?:?) \(?([A-J])\)?\.?"
)
_CHOICE_AND_REASON = re.compile(r"\(?([A-J])\)?,?\s+(?:because|since)\b(.*)")
_AS_ASKED = re.compile(
    r",? as (?:required|desired|claimed|needed|expected|wanted|stated|asked)$"
    r"|,? as (?:shown|seen|given|computed|calculated|found|derived|stated)(?: above| before| earlier)?$"
    r"|\s+\((?:reduced|simplified|exact|exactly|total|in total|in (?:lowest|simplest|reduced) (?:terms|form))\)$"
)
# "twelve (12)"
_SAID_TWICE = re.compile(r"([^()]{1,60}?)\s*\(([^()]{1,60})\)")
SPAN = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
SENTENCE_END = re.compile(r"(?:(?<=[\w)}%$*\]])|(?<=[a-z]))[.!?]\**\s+(?=[A-Z\\$*])")
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
DOUBTFUL = word_set(
    "not no never nor isn't wasn't aren't cannot can't won't twice thrice double doubled triple tripled quadruple "
    "half halved third quarter fifth minus plus times negative square squared cube cubed root reciprocal inverse "
    "opposite factorial logarithm log ln sin cos tan less more fewer under over above below between least most "
    "about around approximately nearly almost roughly except other rather instead without wrong incorrect false "
    "unless if or either maybe perhaps possibly modulo mod base power percent dozen than rule ruled choose doubt "
    "off exclude excluding guess probably suppose presumably impossible fails undefined invalid contradiction "
    "complement nobody nothing none neither hardly barely "
    "case figure fig method step question equation part example table problem remainder theorem lemma proposition "
    "corollary definition section chapter page line exercise axiom formula property depends depend depending"
)
_RETRACTION = re.compile(
    r"\b(?:no|not|wait|actually|or|alternatively|but|maybe|perhaps|else|otherwise|rather|instead|wrong|oops)\b", re.I
)
# "x = 2, y" before "= 5", which is one of two values; "when x = 2, y = 5" tells one.
_ONE_OF_SEVERAL = re.compile(
    r"^(?!.*\b(?:when|if|for|at|since|as|with)\b).*=[^=,]+(?:,\s*(?:(?:and|or)\s+)?|\s(?:and|or)\s+)[a-zA-Z]\w*\s*$",
    re.DOTALL,
)
CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's calculator annotations
MAX_PHRASE_CHARS = 400
# English in a formula; a unit with an exponent behind it stays.
_IN_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm)\s*\{([^{}]*)\}(?!\s*\^)")
# "The function is odd", "There are no solutions".
_PREDICATE = re.compile(
    r"(?:it|this|that|(?:the|this|that|his|her|its|their|our) [A-Za-z][^,;:.?!\d]{0,80}?) (?:is|was|are|were|will be) "
    r"(?:an? |the )?([A-Za-z][\w'-]*(?: [A-Za-z][\w'-]*)?)",
    re.IGNORECASE,
)
_NO_SOLUTION = re.compile(
    r"(?:there (?:is|are|exists?) |(?:the|this) \w+(?: \w+)? has )?(no (?:real |integer )?solutions?)", re.IGNORECASE
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
ELSEWHERE = word_set("before after next previous than besides")


def is_mathematics(text: str) -> bool:
    """Whether a text can be read, and without English words."""
    return any(not _has_words(reading.node) for reading in readings_of(text))


def _has_words(node: Node) -> bool:
    return node.op == "word" or any(map(_has_words, node.args))


def said(phrase: str) -> str:
    """Return what a marked phrase says: its number when it is one between harmless words, else all of it."""
    phrase = _WORD_AND_BANG.sub("", CALCULATION.sub("", phrase).strip().strip("*`").strip())
    if (reason := _REASON.search(phrase)) and not _RETRACTION.search(reason.group(1)):
        phrase = phrase[: reason.start()]
    if (because := _BECAUSE.search(phrase)) and not _RETRACTION.search(because.group(1)):
        phrase = phrase[: because.start()] if readings_of(phrase[: because.start()]) else phrase
    if not phrase.endswith(".m."):
        phrase = phrase.rstrip(".,;").strip().strip("*`").strip()
    phrase = _AS_ASKED.sub("", phrase)
    if option := OPTION.fullmatch(phrase):
        return option.group(1)
    if (twice := _SAID_TWICE.fullmatch(phrase)) and _same_number(*twice.groups()):
        return twice.group(1)
    if (reason := _CHOICE_AND_REASON.fullmatch(phrase)) and not _RETRACTION.search(reason.group(2)):
        return reason.group(1)
    if len(phrase) > MAX_PHRASE_CHARS or readings_of(phrase):
        return phrase
    found = _formula(phrase) or right_side(phrase) or _number_in_words(phrase) or worked_out(phrase)
    return found or _first_sentence(phrase) or predicate(phrase) or phrase


def in_prose(text: str) -> str:
    r"""Return a formula with English in it, `\text{She has } 7 \text{ eggs.}`, as a sentence."""
    return " ".join(_IN_TEXT.sub(r" \1 ", text).split())


def predicate(sentence: str) -> str | None:
    """Return the word or two that a sentence says of what was asked: `odd` of `The function is odd.`

    Where the subject is not quite what was asked (`the day before is Tuesday`), or doubted, nothing.
    """
    sentence = sentence.strip().rstrip(".").strip()
    if none := _NO_SOLUTION.fullmatch(sentence):
        return none.group(1).lower().removesuffix("s")
    match = _PREDICATE.fullmatch(sentence)
    if match is None or words_of(sentence) & (DOUBTFUL | ELSEWHERE):
        return None
    return match.group(1)


def _same_number(left: str, right: str) -> bool:
    """Whether both are one number, in words or digits."""
    (one, *_), (other, *_) = ((*(reading.number for reading in readings_of(text)), None) for text in (left, right))
    return one is not None and other is not None and equal_numbers(one, other)


def _formula(phrase: str) -> str | None:
    """The formula of a phrase that has one, with the unit behind it and only harmless words before it."""
    spans = list(SPAN.finditer(phrase))
    if not spans or not _harmless(phrase[: spans[0].start()]):
        return None
    inner = next(group for group in spans[0].groups() if group)
    rest = phrase[spans[0].end() :].strip()
    if (end := re.match(r"[.!]\**\s+(?=[A-Z])", rest)) and not _RETRACTION.search(rest) and len(spans) == 1:
        rest = rest[: end.start()]
    rest = rest.strip("*. ")
    whole = inner if not rest else f"{inner} {rest}"
    return whole if is_mathematics(inner) and (not rest or is_quantity(whole)) else None


def is_quantity(text: str) -> bool:
    """Whether all of a text is a number with its unit."""
    return any(reading.number is not None for reading in readings_of(text))


def right_side(phrase: str) -> str | None:
    """The right side of a last equation, if it is a number."""
    left, sign, right = phrase.rpartition("=")
    if (
        not sign
        or words_of(_COMMAND.sub(" ", left)) & DOUBTFUL
        or re.search(r"[<>!]$", left)
        or _ONE_OF_SEVERAL.search(left)
    ):
        return None
    return right.strip() if is_quantity(right) else None


def _number_in_words(phrase: str) -> str | None:
    match = re.match(r"([^\d$\\.+-]*)(.+)$", phrase, re.DOTALL)
    if match is None:
        return None
    before, rest = match.group(1).split(), match.group(2)
    if before and before[-1].lower() in ("negative", "minus") and rest[0].isdigit() and "=" not in rest:
        before, rest = before[:-1], f"-{rest}"
    if not _harmless(" ".join(before)) or not is_quantity(rest):
        return None
    return rest


def _harmless(before: str) -> bool:
    words = re.findall(r"[^\s,:;*\"']+", before)
    if len(words) > 1 and words[0][:1].isupper() and not (words[0].lower() in DOUBTFUL or NUMBER_WORDS.match(words[0])):
        words = words[1:]  # somebody's name
    return all(word.lower() in _HARMLESS for word in words)


def _first_sentence(phrase: str) -> str | None:
    """What the first of several sentences says, unless a later one takes it back."""
    end = SENTENCE_END.search(phrase)
    if end is None or _RETRACTION.search(phrase[end.end() :]):
        return None
    first = said(phrase[: end.start()])
    return first if is_mathematics(first) else None


def words_of(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(re.findall(r"[a-z']+", text.lower()))
