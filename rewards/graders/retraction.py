"""Whether what stands behind an answer takes it back.

Example: `Wait, it is Lima.` and `This is wrong.` do; `This is the capital of Norway, not Lima.` explains.
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
    r"|\b(?:is|are) (?:also|equally) (?:possible|plausible|correct|acceptable|valid|right)\b",
    re.IGNORECASE,
)


def takes_back(rest: str) -> bool:
    """Whether the text behind an answer corrects it, doubts it or offers another one."""
    return bool(_TAKES_BACK.search(rest))
