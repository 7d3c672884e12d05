"""The five tiers: the only reward values that a grader may give."""

from dataclasses import dataclass
from typing import Any, Literal

Tier = Literal[1, 2, 3, 4, 5]

TIER_REWARDS: dict[Tier, float] = {5: 1.0, 4: 0.7, 3: 0.4, 2: 0.2, 1: 0.0}


@dataclass(frozen=True)
class Grade:
    """What a grader says of one answer.

    Args:
        tier (`int`): 5 (right) to 1 (nothing usable).
        correct (`bool`): whether it counts as right: by the benchmark's own rule, or because a judge says so (then
            `detail` tells); implies tier 5.
        extracted (`str`, *optional*): the answer that was found in the text and compared.
        detail (`str`): why this tier, in a few words, e.g. `"3 of 5 hidden tests"`.
        disputable (`bool`): the rules compared words or notations and found no equality where there may be one: a
            judge may be asked.
    """

    tier: Tier
    correct: bool
    extracted: str | None
    detail: str
    disputable: bool = False

    @property
    def reward(self) -> float:
        """The tier's reward, in [0, 1]."""
        return TIER_REWARDS[self.tier]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "tier": self.tier,
            "reward": self.reward,
            "correct": self.correct,
            "extracted": self.extracted,
            "detail": self.detail,
        }
