"""Several rewards a rollout, one column each: who has no verdict, and how a tie-break of the workflow's column counts.

The rewards are added with their weights by TRL. A row is one rollout's rewards in the order of `reward_funcs`; K
consecutive rows are a group. `None` is "no verdict":

- of the **workflow** reward, it is a failure of ours. The rollout leaves its group whatever the other rewards say: it
  has no advantage, and no part in the group's mean.
- of **another** reward, it says nothing of this rollout. It stands for the mean of the group's verdicts, so that it
  moves the rollout neither up nor down; counted as 0, as a plain sum would, silence would be the worst verdict among
  bonuses and the best among penalties. A group without any verdict is not moved by this reward.
"""

import math
from collections.abc import Sequence
from statistics import fmean

from rewards.advantages import ScaleRewards, advantage_scale

Row = Sequence[float | None]


def finite_rows(rewards: Sequence[Sequence[float]], names: Sequence[str]) -> list[list[float | None]]:
    """Return the rewards of each rollout, `None` for NaN: no verdict.

    Args:
        rewards (`Sequence`): one row a rollout, with a number for each reward.
        names (`Sequence[str]`): of the rewards.

    Raises:
        ValueError: an infinite reward, which would leave no advantage in its group a number.
    """
    for row in rewards:
        for name, value in zip(names, row, strict=True):
            if math.isinf(value):
                raise ValueError(f"the reward {name!r} returned an infinite number; rewards are finite, or None")
    return [[None if math.isnan(value) else value for value in row] for row in rewards]


def settle(rows: Sequence[Row], workflow: int, group_size: int) -> list[list[float | None]]:
    """Return the rows with what `None` stands for.

    Args:
        rows (`Sequence[Row]`): `group_size` consecutive ones a group, over all processes.
        workflow (`int`): position of the workflow reward's column.
        group_size (`int`): K.

    Raises:
        ValueError: `group_size` does not divide the number of rows.
    """
    if group_size < 1 or len(rows) % group_size:
        raise ValueError(f"num_generations={group_size} does not divide {len(rows)} rows of rewards")
    settled: list[list[float | None]] = []
    for start in range(0, len(rows), group_size):
        group = rows[start : start + group_size]
        graded = [row for row in group if row[workflow] is not None]
        verdicts = [[value for value in column if value is not None] for column in zip(*graded, strict=True)]
        means = [fmean(column) if column else None for column in verdicts]
        for row in group:
            if row[workflow] is None:
                settled.append([None] * len(row))
            else:
                settled.append([mean if value is None else value for value, mean in zip(row, means, strict=True)])
    return settled


def tie_break_factor(
    rows: Sequence[Row], weights: Sequence[float], workflow: int, scale_rewards: ScaleRewards
) -> float:
    """Return what the tie-breaks of the workflow column alone are multiplied with, to be advantages of the sum.

    `tied_advantages` are in units of the workflow column. In the sum a tier gap counts `weight` times as much, over the
    spread of the sum: so must a tie-break, or next to a loud column it would count for more than a tier.

    Args:
        rows (`Sequence[Row]`): from `settle`, the whole batch.
        weights (`Sequence[float]`): one for each column.
        workflow (`int`): position of the workflow reward's column.
        scale_rewards (`str`): TRL's setting.

    Returns:
        `float`: exactly 1 for the workflow reward alone.
    """
    weight = weights[workflow]
    if weight == 0 or scale_rewards == "none":
        return weight
    own = [row[workflow] for row in rows]
    sums = [
        sum(value * other / abs(weight) for value, other in zip(row, weights, strict=True) if value is not None)
        for row in rows
        if row[workflow] is not None
    ]
    return math.copysign(advantage_scale(own, scale_rewards) / advantage_scale(sums, scale_rewards), weight)
