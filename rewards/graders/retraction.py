"""Whether what stands behind an answer takes it back.

Example: `Wait, it is Lima.` and `This is wrong.` do; `This is the capital of Norway, not Lima.` explains. A tag or a
box says that the answer is final, so behind one only words that withdraw it count, and no doubt.
"""

import re

# How a sentence begins that corrects the one before, and what is said of an answer that is none.
_CORRECTS = (
    r"wait|actually|oops|sorry|hmm+|correction|scratch that|on second thoughts?|alternatively|or|but maybe|but perhaps|"
    r"no(?=[,.])|maybe|perhaps|not sure|i(?: am|'m) not sure"
)
_IS_WRONG = (
    r"(?:is|was|may be|might be|could be|seems)\s+(?:not (?:right|correct|true)|wrong|incorrect|false|a mistake)"
)
_TAKES_BACK = re.compile(
    rf"(?:^|[.!?:;\n(])[\s*_#-]{{0,20}}(?:{_CORRECTS})\b(?! else)|\b(?:this|that|it|which|answer)\s+{_IS_WRONG}\b"
    r"|\b(?:could|might|may) (?:also|instead) be\b|\bthe (?:correct|right) answer (?:is|was|would be|should be)\b"
    r"|,\s*(?:but|or) (?:maybe|perhaps|possibly|probably|it (?:could|may|might))\b"
    r"|\b(?:is|are) (?:also|equally) (?:possible|plausible|correct|acceptable|valid|right)\b",
    re.IGNORECASE,
)


def takes_back(rest: str) -> bool:
    """Whether the text behind an answer corrects it, doubts it or offers another one."""
    return bool(_TAKES_BACK.search(rest))


_STARTS = r"(?:but |and |oh,? |hmm+,? |no,? |sorry,? |actually,? ){0,2}"
_WITHDRAWS = re.compile(
    rf"(?:^|[.!?:;\n])[\s*_#$-]{{0,20}}{_STARTS}"
    r"(?:wait|oops|correction|(?:scratch|ignore) that|on second thoughts?|i made an? (?:\w{1,20} )?(?:mistake|error))\b"
    r"|(?:^|[.!?:;\n])[\s*_#$-]{0,20}(?:sorry|actually|hmm+)[\s,.]{1,3}(?:no\b|(?:it|the answer) (?:is|should be)\b)"
    rf"|^[\s.,;:(*$-]{{0,20}}{_STARTS}(?:(?:this|that|it|which)\s+)?{_IS_WRONG}\b"
    rf"|\b(?:the|my|this|that) (?:(?:above|first|previous) )?answer (?:above )?{_IS_WRONG}\b"
    r"|\bthe (?:correct|right|actual|real|true) answer (?:is|was|would be|should be)\b"
    r"|\bthe answer should (?:be|have been)\b",
    re.IGNORECASE,
)
# What is said again in the end: `the answer is 12`, `12 is correct`.
_AGAIN = re.compile(
    r"\banswer\s+(?:(?:is|was|remains|stays|would be|should be)\s+(?:indeed\s+|still\s+)?:?|:)\s*([^\n]{1,400})"
    r"|(?<!\S)((?:[^\n.;:,?]|[.,](?=\d)){1,60}?)\s+(?:is|was)\s+(?:indeed\s+|still\s+)?(?:correct|right)\b",
    re.IGNORECASE,
)
_SAID_ITSELF = frozenset({"this", "that", "it", "the answer", "my answer"})
_SENTENCE_END = re.compile(r"[.!;](?:\s|$)")


def standing(answer: str, rest: str) -> str:
    """Return the answer in a tag or a box; where the text behind withdraws it, and does not end in it again, a denial.

    Args:
        answer (`str`): what the mark holds.
        rest (`str`): what stands behind it.
    """
    return f"not {answer}: {rest.strip()}" if _withdrawn(answer, rest) else answer


def _withdrawn(answer: str, rest: str) -> bool:
    if not _WITHDRAWS.search(rest):
        return False
    again = [_bare(next(filter(None, match.groups()))) for match in _AGAIN.finditer(rest)]
    return not again or not (again[-1] == _bare(answer) or again[-1] in _SAID_ITSELF)


def _bare(said: str) -> str:
    text = _SENTENCE_END.split(said.strip(), maxsplit=1)[0].strip(" .,$*_`\"'")
    text = re.sub(r"^(?:so|yes|thus|hence|indeed|therefore|,|\s)+", "", text, flags=re.IGNORECASE)
    return re.sub(r"\\boxed\{(.*)\}|[\s$]", r"\1", text).casefold()
