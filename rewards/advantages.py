"""What groups without a signal add to TRL's advantages, in units of the real ones.

GRPO gives every rollout of a tied group an advantage of 0. Two things are known about such a group all the same: how
its workflows differ (the tie-break of `rewards/wa_grpo.py`), and whether it earns more or less than its domain lately.
Both are added after TRL has scaled the rewards, over a scale that never gets small:

    scale = max(std of the batch's rewards, TIER_STD)        1 where rewards are not scaled at all

so that a batch full of ties, whose standard deviation is near 0, does not turn a bonus of 0.05 into an advantage of 1.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev, stdev
from typing import Any, Literal

from rewards.tiers import TIER_REWARDS
from rewards.wa_grpo import zero_signal_groups

ScaleRewards = Literal["group", "batch", "none"]

# Standard deviation of rewards that are spread evenly over the tiers, 0.356: what a healthy batch is near to.
TIER_STD = pstdev(TIER_REWARDS.values())
# A domain's level is the mean of so many of its latest rewards, and nothing before it has half as many.
LEVEL_WINDOW = 256


class DomainLevels:
    """What each domain has earned lately: the mean of its latest rewards.

    Args:
        window (`int`): rewards that are remembered of each domain.
    """

    def __init__(self, window: int = LEVEL_WINDOW) -> None:
        self.window = window
        self._rewards: dict[str, deque[float]] = {}

    def levels(self) -> dict[str, float]:
        """Return the level of every domain with enough rewards to have one."""
        return {domain: fmean(rewards) for domain, rewards in self._rewards.items() if len(rewards) >= self.window // 8}

    def add(self, domains: Sequence[str], rewards: Sequence[float | None]) -> None:
        """Take the rewards of one step; `None` is left out."""
        for domain, reward in zip(domains, rewards, strict=True):
            if reward is not None:
                self._rewards.setdefault(domain, deque(maxlen=self.window)).append(reward)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {domain: list(rewards) for domain, rewards in self._rewards.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Sequence[float]]`): from `state_dict`.
        """
        self._rewards = {domain: deque(rewards, maxlen=self.window) for domain, rewards in state.items()}


def advantage_scale(rewards: Sequence[float | None], scale_rewards: ScaleRewards) -> float:
    """Return what rewards of tied groups are divided by: 1 unscaled, else the batch's deviation, `TIER_STD` at least.

    Args:
        rewards (`Sequence[float | None]`): of the whole batch, in [0, 1]; `None` is left out.
        scale_rewards (`str`): TRL's setting; a tied group has no deviation of its own, so `"group"` is as `"batch"`.
    """
    if scale_rewards == "none":
        return 1.0
    values = [reward for reward in rewards if reward is not None]
    return max(TIER_STD, stdev(values) if len(values) > 1 else 0.0)


def tied_advantages(
    rewards: Sequence[float | None],
    adjusted: Sequence[float | None],
    domains: Sequence[str],
    group_size: int,
    *,
    scale_rewards: ScaleRewards,
    levels: Mapping[str, float],
    level_weight: float,
) -> list[float]:
    """Return what to add to the advantages of tied groups.

        a_i = ((b_i - mean of b) + level_weight * (r - level of the domain)) / scale

    with the tie-break `b_i = adjusted_i - r` of a group whose rewards are all `r`. The first part sums to 0 within the
    group and stays below the smallest gap of two tiers. The second is the same for the whole group: it pushes away from
    what earns less than its domain has lately, when no member of the group knew better (a global baseline, as in
    REINFORCE++, https://arxiv.org/abs/2501.03262, for the groups that have no other).

    Args:
        rewards (`Sequence[float | None]`): tier rewards in [0, 1], `group_size` consecutive ones a group.
        adjusted (`Sequence[float | None]`): the same with their tie-breaks (`adjust_groups`).
        domains (`Sequence[str]`): of each rollout.
        group_size (`int`): K.
        scale_rewards (`str`): TRL's setting.
        levels (`Mapping[str, float]`): what each domain has earned lately; a domain without a level has no second part.
        level_weight (`float`): at least 0; 0 turns the second part off.

    Returns:
        `list[float]`: one a rollout; 0 outside of tied groups and for rollouts without a reward.

    Raises:
        ValueError: `group_size` does not divide the number of rewards, or the lengths differ.
    """
    if not len(rewards) == len(adjusted) == len(domains):
        raise ValueError(f"{len(rewards)} rewards, {len(adjusted)} adjusted ones and {len(domains)} domains")
    values = [0.0] * len(rewards)
    scale = advantage_scale(rewards, scale_rewards)
    for group, tied in enumerate(zero_signal_groups(rewards, group_size)):
        members = [
            (index, reward, bonus - reward)
            for index in range(group * group_size, (group + 1) * group_size)
            if (reward := rewards[index]) is not None and (bonus := adjusted[index]) is not None
        ]
        if not tied or not members:
            continue
        mean_bonus = fmean(bonus for _, _, bonus in members)
        for index, reward, bonus in members:
            shift = level_weight * (reward - levels.get(domains[index], reward))
            values[index] = (bonus - mean_bonus + shift) / scale
    return values
