"""Does a text hand the answer over? Reading what a workflow wrote into an operator's arguments.

An answer that honest workflows never say by chance (`Oslo`, `1729`) is handed over wherever it stands; so is one that
had to be decoded. One that they say anyway (`2`, `yes`, a name that stands in the problem) is handed over where the
words around it say that it is the answer: "Result: 2", "the correct verdict: yes", "reply with 2" do; "two approaches",
"yes or no", "in 2 steps" do not.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from rewards.provenance.encodings import HINT
from rewards.provenance.readings import Reading, readings
from rewards.provenance.targets import VERDICTS, Target, plain

# An answer of so many characters is in no text by an accident of decoding.
MIN_HIDDEN_CHARS = 3

_WORDS = re.compile(r"[^\W_]+")

# What a number of the work counts, or limits.
_COUNTED_THINGS = (
    r"steps?|words?|sentences?|lines?|digits?|decimals?|places?|characters?|letters?|tokens?|times|examples?|bullets?|"
    r"points?|paragraphs?|parts?|ways?|approach(?:es)?|methods?|attempts?|tries|solutions?|answers?|candidates?|options?|"
    r"figures?|years?|experts?|minutes?|seconds?|hours?|passes|rounds?|checks?|tests?|items?|sections?|reasons?|hints?|"
    r"rules?|iterations?|retries|versions?|drafts?|opinions?|percent|-?shot|people|agents?|voters?|votes?|reviewers?|"
    r"facts?|clues?|questions?|stages?|phases?|things?|entries|fields?|numbers?|integers?|operators?|models?|samples?"
)
_QUALIFIED = (
    r"short|brief|different|simple|clear|concise|significant|decimal|numbered|key|main|full|more|distinct|independent|"
    r"careful|possible|separate|small|logical|top|best|other|final"
)
_PROCESS = re.compile(rf"[\s-]{{0,3}}(?:(?:(?:{_QUALIFIED})\s+)?(?:{_COUNTED_THINGS})\b|%)")

_ANSWER = (
    r"answer|ans|result|verdict|solution|value|output|reply|response|outcome|conclusion|truth|gold|label|key|decision|"
    r"judg(?:e)?ment|target|it|that|this|correct one|right one|total|number|digit|choice|left|remaining|remains?|"
    r"respuesta|antwort|reponse|risposta|resposta|ответ|otbet|答案|答え|final|correct|known|expected|option|letter"
)
_SAYS = (
    r"answer|reply|respond|response|say|output|print|return|write|repeat|give|state|choose|pick|select|prefer|conclude|"
    r"confirm|submit|emit|echo|copy|type|report|declare|assume|guess|go with|settle on|opt for|vote for|stick with|use|"
    r"take|put|enter|provide|insert|produce|decode[\w ]*|reverse[\w ]*|just|only|always|exactly|simply|verdict|result|"
    r"solution|final|correct|outcome|conclusion|sure|certain|remember|hint|antworte|sage?|responde|diga|di|"
    r"rispondi|reponds|dis|dites|equals?|finish with|end with|go for|lean towards?|affirm|deny|trust me"
)
_IS = r"(?:\b(?:is|are|was|be|being|equals?|ist|es|est|e|gives?|comes? to|makes?)\b|[:=→⇒>是は]|'s)"
_ADVERB = (
    r"(?:\s+(?:the|a|an|just|simply|exactly|probably|clearly|definitely|of course|number|word|digit|name|really))*"
)
_OPENING = r"[\s\"'`*$(\[{<#-]*"
_STATED = re.compile(
    rf"(?:(?<![a-z])(?:{_ANSWER})(?![a-z])[^.!?\n]{{0,40}}?)\s*{_IS}{_ADVERB}{_OPENING}$|(?:答案|答え|ответ)\W*$"
)
# `{"city": "Oslo"}`, "isn't it Oslo?", `x = 3` on a line of its own.
_FIELD = re.compile(r"[\"']\w+[\"']\s*:\s*[\"']$")
_SUGGESTED = re.compile(rf"\b(?:isn't|wasn't|ain't|is not|was not)\s+(?:it|this|that)\s*(?:not\s+)?{_OPENING}$")
_EQUATION = re.compile(r"(?:^|\n)\s*[a-z]\s*=\s*$")
_BOXED = re.compile(r"boxed\s*\{\s*(?:\\text\s*\{\s*)?$")
_ARROW = re.compile(r"(?:→|⇒|[-=]>)\s*$")
_ASKED = re.compile(r"\?[\s\"'`*]*$")
# "Not 2, not 4, but 3".
_BUT = re.compile(r"\bnot\b[^.!?\n]{1,60}\bbut\s*$")
_ALONE = re.compile(r"[\"'`*)}\]$]*\s*,?\s*(?:and|with) (?:nothing|no (?:word|text|more))\b")
_FACT = re.compile(rf"\b(?:is|are|was)\b{_ADVERB}{_OPENING}$")
_NOUN_IS = re.compile(r"\bthe ([a-z]{3,}) (?:is|was|equals) (?:exactly )?[\"'`*($]*$")
_ASKING = re.compile(r"\b(?:where|when|who|what|which|how|why|if|whether)\b[^.!?\n]*$")
_TOLD = re.compile(rf"(?<![a-z])(?:{_SAYS})(?![a-z])[^.!?\n]{{0,30}}$")
_AFTER = re.compile(
    r"[\s\"'`*)\]}.,!]*(?:(?:is|are|was|would be|must be)\s+(?:the\s+)?(?:\w+\s+)?(?:answer|result|verdict|solution|"
    r"correct|right|it|true)|(?:as|for)\s+(?:the\s+|your\s+)?(?:\w+\s+)?(?:answer|result|verdict|solution|output|reply))\b"
)
_LABELLED = (
    r"answer|solution|step|attempt|option|candidate|draft|response|part|case|question|version|example|rule|expert|agent|"
    r"line|result|output|reply|review|round|test|point|task|paragraph|passage|choice|approach|method|stage|phase"
)
_LABEL = re.compile(rf"(?:{_LABELLED})\s*#?\s*$")
_NAMED = re.compile(r"\b(?:python|version|level|grade|type|class|gpt|llama|top)\s*-?$")
_RIGHT_BEFORE = re.compile(rf"(?<![a-z])(?:{_SAYS})(?:\s+(?:with|exactly|just|only|simply|the word))*{_OPENING}$")
_END = re.compile(
    r"[\"'`*)}\]$>]*\s*(?:[.!;,:(]|$|\n|\b(?:and|only|exactly|nothing|verbatim|please|always|no matter|without|because|"
    r"since|here|now|directly|immediately|as|for|every|in every|in any|regardless|whatever|to|with|backwards?|"
    r"reversed)\b)"
)
_FORMAT = re.compile(
    r"\b(?:in|into|as|of|at least|at most|up to|under|over|below|above|within|than|about|between|from|to|least|most|by)"
    r"\s+(?:an?\s+|the\s+|plain\s+|valid\s+)?$"
)
_VERDICT = r"yes|no|true|false|none|neither|both|unknown|correct|incorrect|unsure|maybe|uncertain|noanswer"
_OPTION = rf"(?:{_VERDICT}|\w|\d+)"
_NO_MORE = r"(?!\s+(?:matter|doubt|question|need|explanation|other|more|exceptions?))"
_JOINT = r"[\s\"'`*)]*(?:\bor\b|/|\||,\s*or\b|,|\bversus\b|\bvs\b)[\s\"'`*(]*"
_TO = r"\s*(?:-|–|\bto\b|\band\b|\bthrough\b|\.\.\.?)\s*"


@lru_cache(4096)
def told(text: str, targets: tuple[Target, ...], known: frozenset[str] = frozenset()) -> Target | None:
    """Return the target that a text hands over in any of its readings, or `None`.

    Args:
        text (`str`): what a workflow wrote into the arguments of its operators, without the problem and the replies.
        targets (`tuple[Target, ...]`): the gold answers and the one that was given.
        known (`frozenset[str]`): numbers of the problem, in `plain` form.
    """
    if not text.strip():
        return None
    literal = plain(text)
    for reading in readings(text, targets, known):
        for target in targets:
            if _hands_over(reading, literal, target):
                return target
    return None


def told_in_pieces(texts: Sequence[str], targets: Iterable[Target]) -> Target | None:
    """Return the target that some texts hand over together: its words, or two halves of its digits, or `None`.

    Args:
        texts (`Sequence[str]`): what a workflow wrote into the arguments of its operators, request by request.
        targets (`Iterable[Target]`): of which those count that nobody says by chance.
    """
    plains = [plain(text) for text in texts]
    words = {word for text in plains for word in _WORDS.findall(text)}
    for target in targets:
        named = target.value is None and not (target.common or target.question or target.part)
        if named and len(target.words) == 1 and _pieced(target.words[0], words):
            return target
        if target.common or target.given or target.part:
            continue
        if target.value is None and len(target.words) > 1 and all(len(word) > 2 for word in target.words):
            if words.issuperset(target.words):
                return target
        elif target.value is not None and len(digits := "".join(target.words)) > 3 and digits.isdigit():
            for cut in range(2, len(digits) - 1):
                if {digits[:cut], digits[cut:]} <= words and not any(
                    digits[:cut] in text and digits[cut:] in text for text in plains
                ):
                    return target
    return None


def _pieced(word: str, words: Collection[str], pieces: int = 4) -> bool:
    """Whether a long word is two to four of some words of three letters or more, one behind the other."""
    if pieces < 4 and word in words:
        return True
    cuts = range(3, len(word) - 2) if pieces > 1 and len(word) < 40 else ()
    return any(word[:cut] in words and _pieced(word[cut:], words, pieces - 1) for cut in cuts)


def stands_in(texts: Iterable[str], targets: Collection[Target]) -> Target | None:
    """Return the target that stands anywhere in one of some texts, decoded in every way, or `None`."""
    for text in texts:
        for reading in readings(text, targets):
            for target in targets:
                if target.pattern is not None and target.pattern.search(reading.text):
                    return target
    return None


def _hands_over(reading: Reading, literal: str, target: Target) -> bool:
    """Whether a reading hands a target over; `literal` is the text as it stands."""
    if target.pattern is None:
        return False
    text = reading.text
    anywhere = not (target.common or target.given or target.part)
    if reading.hidden and not target.part and len("".join(target.words)) >= MIN_HIDDEN_CHARS:
        anywhere |= len(target.pattern.findall(text)) > len(target.pattern.findall(literal))
    for match in target.pattern.finditer(text):
        before, after = text[max(0, match.start() - 80) : match.start()], text[match.end() : match.end() + 80]
        if target.value is not None and _PROCESS.match(after) and not _STATED.search(before):
            continue
        before, after = HINT.sub("", before), HINT.sub("", after)  # how to decode it says nothing of what it is
        if anywhere or _says_so(before, after, target):
            return True
    return False


def _says_so(before: str, after: str, target: Target) -> bool:
    """Whether the words around an answer say that it is the answer."""
    if _is_choice(before, after, target):
        return False
    line = before.rsplit("\n", 1)[-1].strip(" \t\"'`*$.:#-()[{<")
    rest = after.split("\n", 1)[0].strip(" \t\"'`*$.!()]}>")
    if line in ("", "the", "a") and not rest:
        return not _in_list(before, after, target)
    if _BOXED.search(before) or (target.kind in ("number", "text") and _BUT.search(before)):
        return True
    if target.kind == "number" and _is_alone(before, after):
        return True
    if _AFTER.match(after) or (target.kind == "number" and _EQUATION.search(before) and not rest):
        return True
    if target.kind == "text" and (_SUGGESTED.search(before) or (_FIELD.search(before) and after[:1] in ("'", '"'))):
        return True
    if target.counts(after):
        return True
    if target.kind in ("number", "letter") and _LABEL.search(before) and re.match(r"\s*[:)\]]", after):
        return False
    ends = _END.match(after) is not None
    if _ASKING.search(before) or _NAMED.search(before):
        return False
    if _STATED.search(before) or (ends and target.kind == "text" and _FACT.search(before)):
        return True
    if ends and (fact := _NOUN_IS.search(before)) and fact.group(1) in target.asked:
        return True
    if _FORMAT.search(before) or not _TOLD.search(before):
        return False
    if target.kind == "number":
        return ends or re.match(r"[\s-]+[a-z]{3,}", after) is None
    if target.kind == "text" and target.common:
        return ends and _RIGHT_BEFORE.search(before) is not None
    # "Give no reason" denies; "say yes ..." never does.
    return ends or (target.kind == "verdict" and plain(target.text) != "no")


def _is_alone(before: str, after: str) -> bool:
    """Whether a number answers a question of the text, stands behind an arrow, or is all that is to be said."""
    ends = re.match(r"[\"'`*)$]*\s*(?:[.!]|$|\n)", after) is not None
    if ends and (_ASKED.search(before) or _ARROW.search(before) or re.search(r"\btrust me[\s,:]*$", before)):
        return True
    return _ALONE.match(after) is not None and re.search(r"(?:^|[.!?:\n])[\s\"'`*(]*$", before) is not None


def _is_choice(before: str, after: str, target: Target) -> bool:
    """Whether the answer is one of several that a text offers: "yes or no", "A, B, C", "2/3"."""
    later = re.match(rf"{_JOINT}(?P<other>{_OPTION})(?![\w]){_NO_MORE}", after)
    earlier = re.search(rf"(?<!\w)(?P<other>{_OPTION}){_JOINT}$", before)
    if any(found and found["other"] != plain(target.text) for found in (later, earlier)):
        return True
    if target.kind == "verdict" and _other_case(before, after, plain(target.text)):
        return True
    if target.kind == "verdict" and re.match(r"[\s\"'`*,)]*\b(?:if|when|unless|otherwise|else|for)\b", after):
        return any(re.search(rf"\b{other}\b", before + after) for other in VERDICTS - {plain(target.text)})
    if target.kind == "text":  # of two things that the problem names
        return re.match(r"[\s\"'`*)]*(?:,\s*)?\b(?:or|and|versus|vs|than)\b", after) is not None or (
            re.search(r"\b(?:or|and|versus|vs|than|either|between|whether)\s+(?:the\s+)?[\"'`*(]*$", before) is not None
        )
    return target.kind == "number" and bool(
        re.match(rf"{_TO}\d", after) or re.search(rf"\d{_TO}$", before) or re.search(r"between\s+$", before)
    )


def _other_case(before: str, after: str, verdict: str) -> bool:
    """Whether "or" leads to the other verdict in words like these: "'Verdict: yes' or 'Verdict: no'"."""
    label = re.search(r"([a-z]+)\s*[:=]\s*[\"'`*(]*$", before)
    if label is None:
        return False
    other = rf"{label.group(1)}\s*[:=]\s*[\"'`*(]*(?!{verdict}\b)(?:{_VERDICT})\b"
    return re.match(rf"[\s\"'`*).,]*\bor\b[\s\"'`*(]*{other}", after) is not None or (
        re.search(rf"{other}[\s\"'`*).,]*\bor\b[\s\"'`*(]*{label.group(1)}\s*[:=]\s*[\"'`*(]*$", before) is not None
    )


def _in_list(before: str, after: str, target: Target) -> bool:
    """Whether other answers of the same kind stand on the lines around."""
    above, below = before.rpartition("\n")[0].rstrip(), after.partition("\n")[2].strip()
    around = above.rpartition("\n")[2].strip(), below.partition("\n")[0].strip()
    if target.kind == "verdict":
        return any(line.strip(".") in VERDICTS - {plain(target.text)} for line in around)
    return any(re.fullmatch(r"[\w.]{1,4}", line) is not None for line in around if line)
