"""Credit for words: how much better somebody else did with them.

An agent that advises is paid by the next one's result, never by how its advice reads. The measure is the next one's
score with the words less its score without them: of another attempt without (counterfactual), or of the attempt before.
"""

from collections.abc import Sequence
from itertools import pairwise


def improvement(before: float, after: float) -> float:
    """Return what a step was worth, 0 to 1: 0.5 where nothing changed, 1 from nothing to all, 0 the other way.

    Args:
        before (`float`): score in [0, 1] without the words, or of the attempt before.
        after (`float`): score in [0, 1] with them.

    Raises:
        ValueError: a score is out of range.

    Example:

        >>> improvement(0.25, 0.75)
        0.75
    """
    for score in (before, after):
        if not 0 <= score <= 1:  # NaN too
            raise ValueError(f"a score must be from 0 to 1, not {score}")
    return 0.5 + (after - before) / 2


def stepwise(scores: Sequence[float]) -> float | None:
    """Return the mean worth of the steps from each attempt to the next; `None` with fewer than two attempts.

    Args:
        scores (`Sequence[float]`): of the attempts in order, each in [0, 1].

    Raises:
        ValueError: a score is out of range.

    Example:

        >>> stepwise([0.0, 0.5, 1.0])
        0.75
    """
    steps = [improvement(before, after) for before, after in pairwise(scores)]
    return sum(steps) / len(steps) if steps else None
