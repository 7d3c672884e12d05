"""The five tiers, and what a grader says of an answer."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

Tier = Literal[1, 2, 3, 4, 5]

TIER_REWARDS: dict[Tier, float] = {5: 1.0, 4: 0.7, 3: 0.4, 2: 0.2, 1: 0.0}
# A grade that is given no reward has that of its tier.
_OF_TIER = math.nan


@dataclass(frozen=True)
class Grade:
    """What a grader says of one answer.

    Args:
        tier (`int`): 5 (right) to 1 (nothing usable).
        correct (`bool`): whether it counts as right: by the benchmark's own rule, or because a judge says so (then
            `detail` tells); implies tier 5.
        extracted (`str`, *optional*): the answer that was found in the text and compared.
        detail (`str`): why this tier, in a few words for people, e.g. `"3 of 5 hidden tests"`. Nothing reads it.
        disputable (`bool`): the rules compared words or notations and found no equality where there may be one: a
            judge may be asked.
        capped (`bool`): the answer is as good as `detail` says, but the workflow had no part in it.
        reward (`float`): in [0, 1]; the tier's own unless the grader gives another (see `Grade.of_reward`).

    Raises:
        ValueError: the reward is out of range.

    Example:

        >>> Grade(4, False, "71.9", "off by 0.1 %").reward
        0.7
    """

    tier: Tier
    correct: bool
    extracted: str | None
    detail: str
    disputable: bool = False
    capped: bool = False
    reward: float = _OF_TIER

    def __post_init__(self) -> None:
        if math.isnan(self.reward):
            object.__setattr__(self, "reward", TIER_REWARDS[self.tier])
        if not 0 <= self.reward <= 1:
            raise ValueError(f"a grade's reward must be from 0 to 1, not {self.reward}")

    @classmethod
    def of_reward(cls, reward: float, extracted: str | None, detail: str, *, correct: bool | None = None) -> "Grade":
        """Return the grade of a grader that measures instead of sorting: its own reward, and the tier that it reaches.

        Args:
            reward (`float`): in [0, 1].
            extracted (`str`, *optional*): the answer that was measured.
            detail (`str`): why, in a few words.
            correct (`bool`, *optional*): whether the answer counts as right; a reward of 1 by default.

        Raises:
            ValueError: the reward is out of range.

        Example:

            >>> Grade.of_reward(0.55, "a haiku", "17 of 31 syllables").tier
            3
        """
        if not 0 <= reward <= 1:  # NaN too
            raise ValueError(f"a grade's reward must be from 0 to 1, not {reward}")
        reached = [tier for tier, least in TIER_REWARDS.items() if reward >= least]  # from the highest down
        return cls(reached[0], reward == 1 if correct is None else correct, extracted, detail, reward=reward)

    def moved_to(self, tier: Tier, detail: str, *, correct: bool, capped: bool = False) -> "Grade":
        """Return this grade in another tier, with that tier's reward; the verdict is then no longer disputable."""
        return dataclasses.replace(
            self, tier=tier, correct=correct, detail=detail, disputable=False, capped=capped, reward=_OF_TIER
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "tier": self.tier,
            "reward": self.reward,
            "correct": self.correct,
            "extracted": self.extracted,
            "detail": self.detail,
        }
