"""The learning signal of a run, step by step: what tied groups add to the advantages, and how each domain fares.

Whoever trains gives it whole steps, gathered over all processes; every process comes to the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.advantages import DomainLevels, ScaleRewards, tied_advantages
from rewards.diagnostics import LearningWatch, Sample


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
    """

    def __init__(self, group_size: int, scale_rewards: ScaleRewards, level_weight: float) -> None:
        self.group_size, self.scale_rewards, self.level_weight = group_size, scale_rewards, level_weight
        self.levels = DomainLevels()
        self.watch = LearningWatch()

    def step(self, samples: Sequence[Sample], adjusted: Sequence[float | None]) -> SignalStep:
        """Take one step's rollouts, and their rewards with tie-breaks (`adjust_groups`).

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
        self.levels.add(domains, rewards)
        metrics, warnings = self.watch.seen(samples, self.group_size)
        metrics |= {f"domain/{name}/level": level for name, level in levels.items() if name in domains}
        return SignalStep(advantages, metrics, warnings)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {"levels": self.levels.state(), "watch": self.watch.state()}

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Any]`): from `state`.
        """
        self.levels.go_on_from(state["levels"])
        self.watch.go_on_from(state["watch"])
