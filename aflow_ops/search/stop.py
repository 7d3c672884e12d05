"""When a search has converged: AFlow's check, with a z that may be more than 0.

The mean of the best rounds is followed from round to round. When it has not moved by more than z standard errors for
several rounds in a row, further rounds are not worth their price. With z = 0, AFlow's value, only an exactly equal mean
counts; the spread between repeats of the validation then plays no part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean


@dataclass(frozen=True)
class Convergence:
    """AFlow's convergence check (FoundationAgents/AFlow, `convergence_utils.py`).

    Args:
        top (`int`): how many of the best rounds are averaged.
        patience (`int`): so many changes in a row must be small.
        z (`float`): how many standard errors are small; `float("-inf")` never stops.
    """

    top: int = 3
    patience: int = 5
    z: float = 0.0

    def reached(self, rounds: Sequence[tuple[float, float]], roots: int = 1) -> bool:
        """Tell whether the search has converged.

        Args:
            rounds (`Sequence[tuple[float, float]]`): `(score, std)` of every round so far, `std` between repeats.
            roots (`int`): how many of them the search started from: that these are many is no reason to stop.
        """
        if len(rounds) < max(self.top, roots) + self.patience:
            return False
        ends = range(len(rounds) - self.patience, len(rounds) + 1)
        levels = [self._level(rounds[:end]) for end in ends]
        return all(
            abs(after - before) <= self.z * math.hypot(spread, spread_before)
            for (before, spread_before), (after, spread) in pairwise(levels)
        )

    def _level(self, rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Mean of the best rounds, and its standard error."""
        best = sorted(rounds, key=lambda item: -item[0])[: self.top]
        return fmean(score for score, _ in best), math.sqrt(sum(std**2 for _, std in best)) / len(best)
