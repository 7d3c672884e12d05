"""Advantages of replayed rows: rewards that are known from elsewhere, against what the policy itself earns now.

The baseline is the mean of the group's sampled rows alone: a replayed success would otherwise raise the bar for all
others, and punish what the policy does for not being what it did not write (ExGRPO, arXiv:2510.02245; RePO,
arXiv:2506.09340, keeps the two apart as well).
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from rewards.advantages import ScaleRewards, advantage_scale
from rewards.columns import Row, settle


def replayed_advantages(
    rows: Sequence[Row],
    known: Mapping[int, float],
    weights: Sequence[float],
    workflow: int,
    group_size: int,
    scale_rewards: ScaleRewards,
) -> dict[int, float]:
    """Return the advantage of each replayed row, by its number.

        a = (r - mean of the group's sampled rewards) / scale

    The scale is that of tied groups (`rewards/advantages.py`), over all rows: it is never small, also where nothing but
    the replayed row earned anything.

    Args:
        rows (`Sequence[Row]`): every rollout's rewards, `group_size` consecutive ones a group; a replayed row has
            `None` in the workflow's column.
        known (`Mapping[int, float]`): the workflow reward of each replayed row, in [0, 1].
        weights (`Sequence[float]`): one for each column.
        workflow (`int`): position of the workflow reward's column.
        group_size (`int`): K.
        scale_rewards (`str`): TRL's setting.

    Returns:
        `dict[int, float]`: 0 where no sampled row of the group was graded.
    """
    unit = abs(weights[workflow]) or 1.0
    filled = [
        [known[index] if index in known and column == workflow else value for column, value in enumerate(row)]
        for index, row in enumerate(rows)
    ]
    sums = [_sum(row, weights, unit) for row in settle(filled, workflow, group_size)]
    scale = advantage_scale(sums, scale_rewards)
    if scale_rewards == "none":
        scale /= unit
    found: dict[int, float] = {}
    for index in known:
        first = index - index % group_size
        group = range(first, first + group_size)
        sampled = [value for other in group if other not in known and (value := sums[other]) is not None]
        own = sums[index]
        found[index] = (own - fmean(sampled)) / scale if sampled and own is not None else 0.0
    return found


def _sum(row: Row, weights: Sequence[float], unit: float) -> float | None:
    """A row's weighted sum in units of the workflow reward; `None` for a row that has none."""
    values = [value * weight / unit for value, weight in zip(row, weights, strict=True) if value is not None]
    return sum(values) if values else None
