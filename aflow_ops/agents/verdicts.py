"""Verdicts: what a verifier or validator says of an attempt, and what it earns with it.

"15 * 4 is 60, and the question asks for that.\nVERDICT: right"  ->  True
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from aflow_ops.agents.team import Outcome

# "VERDICT: right or wrong" says both; in "VERDICT: wrong. The right answer is 4" the second word is no verdict.
_AND = r"[^\w\n.;]{1,4}"
_VERDICT = re.compile(rf"verdict\W{{0,6}}(right|wrong)\b(?:{_AND}(?:(?:and|or){_AND})?(right|wrong)\b)?", re.IGNORECASE)
# A class that hardly ever occurs in a step weighs no more than this.
MAX_WEIGHT = 4.0


def read_verdict(text: str) -> bool | None:
    """Return whether a text says `VERDICT: right` or `VERDICT: wrong`; `None` when it says neither, or both."""
    said = {word.lower() for words in _VERDICT.findall(text) for word in words if word}
    return said == {"right"} if len(said) == 1 else None


def settle_verdicts(outcomes: Sequence[Outcome], role: str) -> list[Outcome]:
    """Pay a role by balanced accuracy: over all of a step's verdicts, the mean of what they earn is that.

    A right verdict on an attempt of a class (right or wrong in truth) that makes up a share s of the attempts earns
    0.5 / s, at most `MAX_WEIGHT`; a false one, or none, earns nothing. To say the same of everything earns 0.5.

    Args:
        outcomes (`Sequence[Outcome]`): of a step; `verdicts[role]` are pairs of what was said and what was true.
        role (`str`): who gave them; an outcome without any stays as it is.
    """
    truths = [truth for outcome in outcomes for _, truth in outcome.verdicts.get(role, ())]
    shares = {truth: truths.count(truth) / max(1, len(truths)) for truth in (True, False)}
    weights = {truth: min(MAX_WEIGHT, 0.5 / share) if share else 0.0 for truth, share in shares.items()}

    def settled(outcome: Outcome) -> Outcome:
        pairs = outcome.verdicts.get(role, ())
        if not pairs:
            return outcome
        earned = sum(weights[truth] for said, truth in pairs if said == truth) / len(pairs)
        return replace(outcome, local={**outcome.local, role: earned})

    return [settled(outcome) for outcome in outcomes]


def verdict_metrics(outcomes: Sequence[Outcome], role: str) -> dict[str, float]:
    """Return balanced accuracy, false positive rate and false negative rate of a role's verdicts, those that are known.

    A false positive is a wrong attempt that was called right. A rate whose class did not occur is left out.
    """
    pairs = [pair for outcome in outcomes for pair in outcome.verdicts.get(role, ())]
    right = [said for said, truth in pairs if truth]
    wrong = [said for said, truth in pairs if not truth]
    metrics = {}
    if right:
        metrics["false_negatives"] = 1 - sum(right) / len(right)
    if wrong:
        metrics["false_positives"] = sum(wrong) / len(wrong)
    if right and wrong:
        metrics["balanced_accuracy"] = 1 - (metrics["false_negatives"] + metrics["false_positives"]) / 2
    return metrics
