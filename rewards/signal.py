"""The learning signal of a run, step by step: what is added to TRL's advantages, and how each domain fares.

Whoever trains gives it whole steps, gathered over all processes; every process comes to the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.advantages import DomainLevels, ScaleRewards, tied_advantages
from rewards.diagnostics import LearningWatch, Sample
from rewards.exploration import shape_entropy_advantages


@dataclass(frozen=True)
class SignalStep:
    """What one step comes to.

    Args:
        advantages (`list[float]`): to be added to TRL's, one a rollout.
        metrics (`dict[str, float]`): `domain/NAME/...` of `LearningWatch.seen`, and `domain/NAME/level`.
        warnings (`list[str]`): for the person at the screen.
    """

    advantages: list[float]
    metrics: dict[str, float]
    warnings: list[str]


class LearningSignal:
    """Remembers what each domain has earned and sampled.

    Args:
        group_size (`int`): K.
        scale_rewards (`str`): TRL's setting.
        level_weight (`float`): weight of a domain's level in its tied groups, at least 0.
        shape_entropy_coef (`float`): of the entropy bonus over shapes at the first step, at least 0.
    """

    def __init__(
        self,
        group_size: int,
        scale_rewards: ScaleRewards,
        level_weight: float = 0.0,
        shape_entropy_coef: float = 0.0,
    ) -> None:
        self.group_size, self.scale_rewards = group_size, scale_rewards
        self.level_weight, self.shape_entropy_coef = level_weight, shape_entropy_coef
        self.levels = DomainLevels()
        self.watch = LearningWatch()

    def step(self, samples: Sequence[Sample], adjusted: Sequence[float | None], progress: float = 0.0) -> SignalStep:
        """Take one step's rollouts.

        Args:
            samples (`Sequence[Sample]`): whole groups, `group_size` consecutive ones each.
            adjusted (`Sequence[float | None]`): their rewards with tie-breaks (`adjust_groups`).
            progress (`float`): share of the run that is over, in [0, 1]. The entropy bonus falls with it to 0: explore
                first, settle last.

        Raises:
            ValueError: K does not divide the number of rollouts, or the lengths differ.
        """
        rewards = [sample.reward for sample in samples]
        domains = [sample.domain for sample in samples]
        levels = self.levels.levels()
        advantages = tied_advantages(
            rewards,
            adjusted,
            domains,
            self.group_size,
            scale_rewards=self.scale_rewards,
            levels=levels,
            level_weight=self.level_weight,
        )
        coef = self.shape_entropy_coef * (1 - progress)
        if coef:
            explored = shape_entropy_advantages(samples, self.group_size, coef)
            advantages = [tied + bonus for tied, bonus in zip(advantages, explored, strict=True)]
        self.levels.add(domains, rewards)
        metrics, warnings = self.watch.seen(samples, self.group_size)
        metrics |= {f"domain/{name}/level": level for name, level in levels.items() if name in domains}
        return SignalStep(advantages, metrics, warnings)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {"levels": self.levels.state_dict(), "watch": self.watch.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Any]`): from `state_dict`.
        """
        self.levels.load_state_dict(state["levels"])
        self.watch.load_state_dict(state["watch"])
