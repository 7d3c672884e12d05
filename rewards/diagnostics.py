"""How each domain learns: what it earns, how varied its workflows are, and whether a good one was lost on the way.

A mean over all domains hides the usual failure: what rises for one domain drags another along, a design that was known
to be better is no longer sampled, and then no group can tell the policy so. Here a workflow's *shape* is its operators
in the order in which they are written, e.g. `Custom > Review > Revise`.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rewards.wa_grpo import zero_signal_groups

# A shape's mean reward is believed after so many samples, and it is better from this difference on.
MIN_SAMPLES, CLEARLY_BETTER = 8, 0.1
# Steps that a trend is made of.
TREND_STEPS = 5


@dataclass(frozen=True)
class Sample:
    """One rollout as it is looked at here. Small and picklable: it travels between processes.

    Args:
        domain (`str`): of its problem.
        shape (`str`, *optional*): its workflow's operators in order; `None` when it has no valid workflow.
        reward (`float`, *optional*): its tier's reward in [0, 1]; `None` when the failure was ours.
    """

    domain: str
    shape: str | None
    reward: float | None


def shape_of(operators: Sequence[str]) -> str:
    """Return the shape of a workflow's operators."""
    return " > ".join(operators)


def shape_entropy(samples: Iterable[Sample]) -> float:
    """Entropy in nats over the shapes of valid workflows: 0 when all are alike, ln(n) when n are equally frequent."""
    counts = Counter(sample.shape for sample in samples if sample.shape is not None)
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values()) if total else 0.0


@dataclass
class _Shape:
    rewards: float = 0.0
    count: int = 0

    @property
    def mean(self) -> float:
        return self.rewards / self.count


@dataclass
class _Domain:
    shapes: dict[str, _Shape] = field(default_factory=dict)
    rewards: deque[float] = field(default_factory=lambda: deque(maxlen=TREND_STEPS))  # means of the latest steps
    best: float = 0.0  # highest mean over TREND_STEPS
    missed: int = 0  # steps in a row without the best shape
    warned: set[str] = field(default_factory=set)

    def best_shape(self) -> str | None:
        """The shape with the highest mean reward of those with enough samples."""
        known = {name: shape.mean for name, shape in self.shapes.items() if shape.count >= MIN_SAMPLES}
        return max(known, key=lambda name: known[name]) if known else None


class LearningWatch:
    """Follows every domain over the steps of a run."""

    def __init__(self) -> None:
        self._domains: dict[str, _Domain] = {}

    def seen(self, samples: Sequence[Sample], group_size: int) -> tuple[dict[str, float], list[str]]:
        """Take the rollouts of one step.

        Args:
            samples (`Sequence[Sample]`): whole groups, `group_size` consecutive ones each.
            group_size (`int`): K.

        Returns:
            Metrics and warnings. For each domain of the step `domain/NAME/reward`, `/shape_entropy` (nats),
            `/zero_signal` (share of groups whose rewards are all equal) and, once a best shape is known,
            `/best_shape_missed` (share of groups in which nobody wrote it). A warning is given once until its reason
            has passed.

        Raises:
            ValueError: `group_size` does not divide the number of samples.
        """
        tied = zero_signal_groups([sample.reward for sample in samples], group_size)
        groups = [list(samples[start : start + group_size]) for start in range(0, len(samples), group_size)]
        metrics: dict[str, float] = {}
        for name in dict.fromkeys(sample.domain for sample in samples):
            own = [index for index, group in enumerate(groups) if group[0].domain == name]
            metrics |= {
                f"domain/{name}/{key}": value
                for key, value in self._step(name, [groups[i] for i in own], [tied[i] for i in own]).items()
            }
        return metrics, self._warnings()

    def _step(self, name: str, groups: Sequence[Sequence[Sample]], tied: Sequence[bool]) -> dict[str, float]:
        domain = self._domains.setdefault(name, _Domain())
        rollouts = [sample for group in groups for sample in group]
        rewards = [sample.reward for sample in rollouts if sample.reward is not None]
        metrics = {"shape_entropy": shape_entropy(rollouts), "zero_signal": fmean(tied)}
        if rewards:
            metrics["reward"] = fmean(rewards)
            domain.rewards.append(metrics["reward"])
        best = domain.best_shape()
        if best is not None:
            metrics["best_shape_missed"] = fmean(all(sample.shape != best for sample in group) for group in groups)
            domain.missed = domain.missed + 1 if metrics["best_shape_missed"] == 1 else 0
        for sample in rollouts:
            if sample.shape is not None and sample.reward is not None:
                shape = domain.shapes.setdefault(sample.shape, _Shape())
                shape.rewards, shape.count = shape.rewards + sample.reward, shape.count + 1
        return metrics

    def _warnings(self) -> list[str]:
        trends = {name: _trend(domain) for name, domain in self._domains.items()}
        rising = [name for name, (_, _, rises) in trends.items() if rises]
        said = []
        for name, domain in self._domains.items():
            now, before, _ = trends[name]
            others = [other for other in rising if other != name]
            falls = bool(others) and before - now >= CLEARLY_BETTER
            best = domain.best_shape()
            earned = domain.shapes[best].mean if best is not None else 0.0
            lost = domain.missed >= TREND_STEPS and earned - now >= CLEARLY_BETTER
            if _news(domain, "falls", falls):
                said.append(
                    f"{name} earns {now:.2f}, down from {before:.2f}, while {' and '.join(others)} rises: give it a "
                    "larger share of domain_mix, or lower the learning rate"
                )
            if _news(domain, "lost", lost):
                said.append(
                    f"{name}: {best} earned {earned:.2f} and has not been sampled for {domain.missed} steps, which "
                    f"earn {now:.2f}: raise the temperature, entropy_coef or num_generations"
                )
        return said

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {
            name: {
                "shapes": {shape: [item.rewards, item.count] for shape, item in domain.shapes.items()},
                "rewards": list(domain.rewards),
                "best": domain.best,
                "missed": domain.missed,
                "warned": sorted(domain.warned),
            }
            for name, domain in self._domains.items()
        }

    def go_on_from(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Mapping]`): from `state`.
        """
        self._domains = {
            name: _Domain(
                {shape: _Shape(*numbers) for shape, numbers in item["shapes"].items()},
                deque(item["rewards"], maxlen=TREND_STEPS),
                item["best"],
                item["missed"],
                set(item["warned"]),
            )
            for name, item in state.items()
        }


def _trend(domain: _Domain) -> tuple[float, float, bool]:
    """Mean of the latest steps, the best such mean before, and whether this one is the best by now."""
    if not domain.rewards:
        return 0.0, 0.0, False
    now, before = fmean(domain.rewards), domain.best
    if len(domain.rewards) == TREND_STEPS:
        domain.best = max(domain.best, now)
    return now, before, len(domain.rewards) == TREND_STEPS and now > before


def _news(domain: _Domain, reason: str, holds: bool) -> bool:
    """Whether a reason holds that has not been told since it last did not."""
    told = reason in domain.warned
    (domain.warned.add if holds else domain.warned.discard)(reason)
    return holds and not told
