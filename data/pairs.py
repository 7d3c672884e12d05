"""Preference pairs of trajectories: of one problem's workflows, the better one and the worse one, with their scores.

Sampling is ScoreFlow's (arXiv:2502.04306): a pair is drawn in proportion to `(s_w - s_l)^3`, so that clear differences,
which the noise of a score seldom turns round, teach most. Unlike ScoreFlow, which samples again until code runs, what
is invalid or failed is kept: it is the plainest negative there is.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.trajectories import Trajectory
from data.trajectory_sets import SAME_REWARD, by_group


@dataclass(frozen=True)
class Pair:
    """Two trajectories of one group.

    Args:
        chosen (`Trajectory`): with the higher reward.
        rejected (`Trajectory`): with the lower one.
    """

    chosen: Trajectory
    rejected: Trajectory

    @property
    def gap(self) -> float:
        """Difference of their rewards, above 0."""
        return self.chosen.reward - self.rejected.reward


def all_pairs(trajectories: Iterable[Trajectory]) -> list[Pair]:
    """Return every pair of a group's trajectories whose rewards differ."""
    return [
        Pair(chosen, rejected)
        for group in by_group(trajectories).values()
        for chosen in group
        for rejected in group
        if chosen.reward - rejected.reward > SAME_REWARD
    ]


def sample_pairs(pairs: Sequence[Pair], count: int, *, power: float, seed: int) -> list[Pair]:
    """Draw pairs in proportion to a power of their gaps, with replacement.

    Args:
        pairs (`Sequence[Pair]`): at least one.
        count (`int`): how many to draw.
        power (`float`): of the gap; 3 as ScoreFlow does, 0 for all alike.
        seed (`int`): of the drawing.
    """
    return random.Random(seed).choices(pairs, [pair.gap**power for pair in pairs], k=count)
