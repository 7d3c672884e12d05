"""What a short answer commits to: yes or no, that there is no answer, one of several options, or not this one.

Example: `No, they are not.` says no; `No idea` and `No doubt both were` say neither. `Oslo, Lima, Rome` names options,
`Washington, D.C.` one place; `definitely not Oslo` denies. Where a reading is uncertain, the answer commits to nothing.
"""

import re
import string
from collections import Counter

from rewards.graders.notation import word_set

_OPENING = re.compile(r"[\s*_\"'`({\[]*(yes|no)\b[\"'`*_)}\]]*(.*)$", re.IGNORECASE | re.DOTALL)
_PAUSE = re.compile(r"\s*(?:[,.;:!]+|-+(?=\s))(?!\s*(?:#?\d|of\b))\s*(.*)$", re.DOTALL)
# What makes a half of a yes or no.
_HALF = re.compile(
    r"\bnot (?:exactly|quite|really|necessarily|entirely|completely|fully|precisely|always|sure)\b"
    r"|\bin (?:part|a (?:way|sense))\b|\bto (?:some|a certain) (?:extent|degree)\b|\bmore or less\b|\btechnically\b"
    r"|\bsomewhat\b|\b(?:both )?yes and no\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"\s+(?:they|it|he|she|we|you|there|this|that|these|those)\s+(?:both\s+)?(?:is|are|was|were|do|does|did|has|have|had|can|"
    r"could|will|would|should)\b(.*)$",
    re.IGNORECASE | re.DOTALL,
)
_OPEN_WORDS = word_set(
    "maybe perhaps possibly probably unsure sure unless if or depends partly sort kind know knows known unknown "
    "unclear idea information context mention mentioned mentions evidence certain doubt question wait actually "
    "longer however although though cannot can't one answer otherwise but hmm sorry instead rather alternatively "
    "think guess believe suppose assume seems seem appears likely"
)
_DENIALS = word_set(
    "no not never neither nor none false incorrect wrong untrue opposite isn't aren't wasn't weren't don't "
    "doesn't didn't hasn't haven't can't couldn't won't wouldn't only hardly barely except unlikely"
)
_AFFIRMATIONS = word_set("yes true correct right indeed yeah yep affirmative certainly definitely")
_MAX_WORDS_AFTER = 40
# What says the opposite of each verdict on both of two.
_OF_BOTH = {
    "yes": re.compile(r"\bone of (?:them|the|these|those)\b", re.IGNORECASE),
    "no": re.compile(r"^\W*(?:they )?both (?:were|are|did|do|have|had|can|could)\b(.*)$", re.IGNORECASE | re.DOTALL),
}

_SILENT = frozenset(
    {
        "unanswerable", "noanswer", "no answer", "none", "unknown", "not mentioned", "not stated",
        "not given", "n/a", "na", "not answerable", "not specified", "not available", "no answer given",
        "no answer found", "no answer available", "not enough information", "insufficient information",
        "no information", "no information available", "no information given", "question is unanswerable",
        "passage does not say", "cannot be answered", "cannot be determined", "unknown from passage",
        "not in passage", "not in text", "not in context"
    }
)  # fmt: skip
_SOURCE = (
    r"(?:the |this |given |provided |above )*(?:passage|text|context|article|paragraph|document|information|story)"
)
_AUXILIARY = r"(?:does not|doesn't|did not|didn't|do not|don't|never)"
_TELLING = (
    r"(?:says?|states?|mentions?|specif(?:y|ies)|gives?|tells?|provides?|contains?|indicates?|includes?|answers?)"
)
_TOLD = r"(?:said|stated|mentioned|specified|given|told|provided|indicated|answered|determined|known|inferred|found)"
_REST = r"[\w\s'\"-]{0,90}"
_SAYS_NOTHING = re.compile(
    rf"(?:(?:i|we) (?:cannot|can't|could not) (?:answer|determine|find|tell|say)(?: {_REST})?"
    rf"|{_SOURCE}(?: given| provided)? {_AUXILIARY} {_TELLING}(?: {_REST})?"
    rf"|(?:it|this|that|the answer|the question|(?:the|this|that) information)"
    rf" (?:(?:is|was|has) (?:not|never)|isn't|wasn't|hasn't)(?: been)? {_TOLD}(?: {_REST})?"
    rf"|(?:it|this|that|the answer|the question|the answer to this question|this question)?"
    rf"\s*(?:cannot|can't|can not|could not) be {_TOLD}(?: {_REST})?"
    rf"|(?:there is|there's) (?:no|not enough) (?:answer|information|mention)(?: {_REST})?"
    rf"|(?:the answer|the question|this question|it) is (?:unknown|unanswerable|not known|not answerable)(?: {_REST})?"
    rf"|not {_TOLD} (?:in|by) {_SOURCE}"
    rf"|no (?:answer|information|mention)(?: of| about| on| is| was| in)(?: {_REST})?"
    rf"|not enough (?:information|context)(?: {_REST})?)",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(r"[.,;]?\s+(?:so|therefore|thus|hence),?\s+|[.;]\s+")
_BUT = re.compile(
    r"\b(?:but|however|though|although|except|probably|perhaps|maybe|likely|presumably|unless|still|yet)\b", re.I
)
_ARTICLE = re.compile(r"\b(?:the|a|an) (?=\w+ |(?:passage|text|context|question)\b)")

# Between words, these make options of them; so does every mark that sentences have no use for.
_HEDGE = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|either|alternatively|otherwise|vs|versus|and/or|if not|could be|might be|may be|"
    r"else|aka|also|plus|as well as|along with|together with|followed by|then|but|second(?:ly)?|guess|options?|"
    r"candidates?|one of)\b"
    r"|[;|\\\n\t→•‣▪](?=.*\w)|(?<!\d)/|/(?!\d)|(?<!\d)\s?:\s?(?=.*\w)|\s[-~+*]+\s|[\])}>]\s*[\[({<]|\w\s{2,}\w"
    r"|(?<!\w)(?:\d|[a-z]|[ivx]{2,3})[.)]\s|\.\.\.\s*\w|[^\w\s.,:;'\"()\[\]&$€£%!?*+#/-](?=.*\w)|\s[#%_^@+*]\s",
    re.IGNORECASE | re.DOTALL,
)
_DENIED = re.compile(
    r"\b(?:not|never|\w+n't|cannot|neither|nor|no|none|nothing|nowhere|without|excluding|except|exclude[sd]?|wrong|"
    r"incorrect|false|untrue|anything but|other than|rather than|instead of|opposite of|unlike|unlikely|far from|"
    r"hardly|ruled out|rules? out|doubt\w*|den(?:y|ies|ied)|reject\w*|avoid\w*|impossible|outside|beyond|failed|non)\b",
    re.IGNORECASE,
)
_DATE_COMMA = re.compile(r"\b\d{1,2},\s*(?=\d{4}\b)|\b[A-Z][a-z]+,\s*(?=\d{4}\b)")
_SUFFIX_COMMA = re.compile(r",\s*(?=(?:Jr|Sr|Inc|Ltd|LLC|Ph\.?D|M\.?D|Esq|I{2,3}|IV)\b)")
_BRACKETED = re.compile(r"[(\[{\"]([^()\[\]{}\"]*)[)\]}\"]|(?<!\w)'([^']+)'(?!\w)")
_SENTENCE_END = re.compile(r"(?<=[^\W\d_]{3})(?<!Prof)(?<!Capt)(?<!Corp)(?<!Bros)[.!?]+\s+(?=[^\W_])")
_COMMA = r",(?!\d{3}(?!\d))"
_SHORT = 4
_UNMARKED = str.maketrans("", "", string.punctuation)


def says(text: str, question: str = "") -> str | None:
    """Return `"yes"` or `"no"` when a text says so, and nothing that takes it back; else `None`.

    Args:
        text (`str`): the answer.
        question (`str`): one about both of two is denied by "one of them was" and affirmed by "both were".
    """
    match = _OPENING.match(text)
    if match is None:
        return None
    verdict, rest = match.group(1).lower(), match.group(2)
    if "?" in rest or _HALF.search(rest):
        return None
    if not rest.strip(string.punctuation + string.whitespace):
        return verdict
    after = (
        _PAUSE.match(rest)
        or _CLAUSE.match(rest)
        or (re.match(r"\s+\(?both\b(.*)$", rest, re.I | re.S) if verdict == "yes" else None)
    )
    if after is None:
        return None
    words = re.findall(r"[a-z']+", rest.lower())
    against = _DENIALS if verdict == "yes" else _AFFIRMATIONS
    # "No, only one of them is" denies; what else has "one" in it is open.
    open_words = _OPEN_WORDS - ({"one", "but"} if after.re is _PAUSE and words[:2] != ["no", "one"] else set())
    if set(words) & (against | open_words) or len(words) > _MAX_WORDS_AFTER:
        return None
    if re.search(r"\bboth\b", question, re.IGNORECASE) and _of_both_otherwise(verdict, rest, question):
        return None
    if words[:1] == ["but"] or (verdict == "no" and words[:1] == ["no"]):
        return None
    return verdict


def _of_both_otherwise(verdict: str, rest: str, question: str) -> bool:
    """Whether what follows a verdict on both of two is the other one: "one of them was"; "both were", as was asked."""
    found = _OF_BOTH[verdict].search(rest)
    if found is None or not found.groups():
        return found is not None
    return set(re.findall(r"\w+", found.group(1).lower())) <= set(re.findall(r"\w+", question.lower()))


def says_unanswerable(text: str) -> bool:
    """Whether a text says that there is no answer, and then gives none."""
    bare = " ".join(text.lower().split()).strip(" .!*\"'`()[]")
    if bare in _SILENT or _ARTICLE.sub("", bare) in _SILENT:
        return True
    parts = _CONCLUSION.split(bare)
    return len(bare) <= 200 and all(map(_SAYS_NOTHING.fullmatch, parts)) and not _BUT.search(bare)


def denies(text: str, gold: str) -> bool:
    """Whether an answer has a word that turns it round and that the gold answer lacks: `definitely not Oslo`."""
    return Counter(map(str.lower, _DENIED.findall(text))) > Counter(map(str.lower, _DENIED.findall(gold)))


def lists_options(text: str, given: str = "") -> bool:
    """Whether an answer names several things instead of one.

    Args:
        text (`str`): the answer: `Oslo or Lima`, `Oslo/Lima`, `Oslo, Lima, Rome`, `Oslo (Lima)`, one on each line.
        given (`str`): context and question; what stands there in one piece (`Oslo, Norway`) is one thing.
    """
    text = _SUFFIX_COMMA.sub(" ", _DATE_COMMA.sub(" ", text.strip().rstrip(".")))
    if in_one_piece(text, given):
        return False
    if _HEDGE.search(text.strip("*_`~^<>{}")):
        return True
    if len(re.findall(_COMMA, text)) >= 2:
        return True
    inner = [found for pair in _BRACKETED.findall(text) for found in pair if found]
    outer = _BRACKETED.sub(" ", text)
    if len(inner) > 1 or (inner and outer.strip(string.punctuation + " ") and any(map(_names_something, inner))):
        return True
    named = text.title() if text == text.lower() else text
    for parts in (re.split(rf"{_COMMA}|\band\b|&", named, flags=re.IGNORECASE), _SENTENCE_END.split(named)):
        if len(parts) > 1 and all(map(_names_something, parts)):
            return True
    return False


def _names_something(part: str) -> bool:
    words = part.translate(_UNMARKED).split()
    return 0 < len(words) <= _SHORT and any(word[:1].isupper() or word[:1].isdigit() for word in words)


def in_one_piece(text: str, given: str) -> bool:
    """Whether a text stands so in what is given: then it is one thing, whatever is in it."""
    return bool(given) and " ".join(text.lower().split()) in " ".join(given.lower().split())
