"""How each domain learns: what it earns, how varied its workflows are, and whether a good one was lost on the way.

A mean over all domains hides the usual failure: what rises for one domain drags another along, a design that was known
to be better is no longer sampled, and then no group can tell the policy so. Here a workflow's *shape* is its operators
in the order in which they are written, e.g. `Custom > Review > Revise`.

A step draws a few problems of a domain, and what it earns depends on which. So each warning compares like with like
(`rewards/statistics.py`), and asks for a difference that is large, beyond chance, and lasts.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean
from typing import Any

from rewards.statistics import like_with_like
from rewards.wa_grpo import zero_signal_groups

# A difference in mean reward that is worth a word, and by how many standard errors it must be beyond chance.
CLEARLY_BETTER, CLEAR_ERRORS = 0.1, 3.0
# Steps that "now" is made of, and for which a reason must hold; steps before them that a domain is compared with.
TREND_STEPS, REFERENCE_STEPS = 5, 20
# Groups that have sampled a shape before it is believed; so many of the latest are remembered.
MIN_GROUPS, KEPT_GROUPS = 8, 100

# A problem and the mean reward of a group, or of those of a group that have one shape.
Met = tuple[str, float]


@dataclass(frozen=True)
class Sample:
    """One rollout as it is looked at here. Small and picklable: it travels between processes.

    Args:
        domain (`str`): of its problem.
        problem (`str`): what tells the problem from the others of its domain.
        shape (`str`, *optional*): its workflow's operators in order; `None` when it has no valid workflow.
        reward (`float`, *optional*): its tier's reward in [0, 1]; `None` when the failure was ours.
    """

    domain: str
    problem: str
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
class _Domain:
    shapes: dict[str, deque[Met]] = field(default_factory=dict)
    sampled: deque[list[str]] = field(default_factory=lambda: deque(maxlen=TREND_STEPS))  # shapes of the latest steps
    steps: deque[list[Met]] = field(default_factory=lambda: deque(maxlen=TREND_STEPS + REFERENCE_STEPS))
    best: list[Met] = field(default_factory=list)  # of the REFERENCE_STEPS steps that earned most, none of them now
    falling: int = 0  # steps in a row that earned clearly less than the best
    missed: int = 0  # steps in a row without the best shape
    warned: set[str] = field(default_factory=set)

    def add(self, groups: Sequence[Sequence[Sample]]) -> None:
        """Take one step's groups."""
        met = [(group[0].problem, reward) for group in groups if (reward := _mean(group)) is not None]
        if met:
            self.steps.append(met)
            earlier = _flat(list(self.steps)[:-TREND_STEPS])
            full = len(self.steps) == TREND_STEPS + REFERENCE_STEPS
            if not full or _earned(earlier) > _earned(self.best):
                self.best = earlier
        for group in groups:
            for shape in _shapes(group):
                reward = _mean(sample for sample in group if sample.shape == shape)
                if reward is not None:
                    known = self.shapes.setdefault(shape, deque(maxlen=KEPT_GROUPS))
                    known.append((group[0].problem, reward))
        self.sampled.append(_shapes(sample for group in groups for sample in group))

    def now(self) -> list[Met]:
        """What the latest steps earned."""
        return _flat(list(self.steps)[-TREND_STEPS:])

    def gain(self) -> tuple[float, float]:
        """How much more than its best a domain earns now, and the standard error of that."""
        return like_with_like(self.now(), self.best)

    def best_shape(self) -> str | None:
        """The shape that earned most of those that are known well enough."""
        known = {name: _earned(self.shapes[name]) for name in self.shapes if self._is_known(name)}
        return max(known, key=lambda name: known[name]) if known else None

    def lost(self, shape: str) -> float | None:
        """How much more than the latest steps a shape earned; `None` unless it beats them, and each of their shapes."""
        if self.missed < TREND_STEPS:
            return None
        rivals = [list(self.shapes[name]) for name in sorted(set(chain(*self.sampled))) if self._is_known(name)]
        gains = [like_with_like(list(self.shapes[shape]), other) for other in (self.now(), *rivals)]
        return gains[0][0] if all(_clear(*gain) for gain in gains) else None

    def _is_known(self, shape: str) -> bool:
        return len(self.shapes.get(shape, ())) >= MIN_GROUPS


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
        names = list(dict.fromkeys(sample.domain for sample in samples))
        for name in names:
            own = [index for index, group in enumerate(groups) if group[0].domain == name]
            metrics |= {
                f"domain/{name}/{key}": value
                for key, value in self._step(name, [groups[i] for i in own], [tied[i] for i in own]).items()
            }
        return metrics, [*self._falls(names), *self._losses(names)]

    def _step(self, name: str, groups: Sequence[Sequence[Sample]], tied: Sequence[bool]) -> dict[str, float]:
        domain = self._domains.setdefault(name, _Domain())
        rollouts = [sample for group in groups for sample in group]
        metrics = {"shape_entropy": shape_entropy(rollouts), "zero_signal": fmean(tied)}
        reward = _mean(rollouts)
        if reward is not None:
            metrics["reward"] = reward
        best = domain.best_shape()
        if best is not None:
            metrics["best_shape_missed"] = fmean(all(sample.shape != best for sample in group) for group in groups)
            domain.missed = domain.missed + 1 if metrics["best_shape_missed"] == 1 else 0
        domain.add(groups)
        return metrics

    def _falls(self, names: Sequence[str]) -> list[str]:
        """Warnings of domains of this step that earn less than they did, while another does not."""
        gains = {name: domain.gain() for name, domain in self._domains.items()}
        said = []
        for name in names:
            domain, (gain, error) = self._domains[name], gains[name]
            domain.falling = domain.falling + 1 if _clear(-gain, error) else 0
            others = [
                other for other, (theirs, their_error) in gains.items() if other != name and theirs > -their_error
            ]
            if _news(domain, "falls", domain.falling >= TREND_STEPS and bool(others), gain < 0):
                said.append(
                    f"{name} earns {_earned(domain.now()):.2f}, on like problems {-gain:.2f} less than at its best, "
                    f"while {' and '.join(others)} {'does' if len(others) == 1 else 'do'} not fall: give it a larger "
                    "share of domain_mix, or lower the learning rate"
                )
        return said

    def _losses(self, names: Sequence[str]) -> list[str]:
        """Warnings of domains of this step that no longer sample a shape which earned more than they earn now."""
        said = []
        for name in names:
            domain = self._domains[name]
            shape = domain.best_shape()
            gain = domain.lost(shape) if shape is not None else None
            if _news(domain, "lost", gain is not None, domain.missed >= TREND_STEPS):
                said.append(
                    f"{name}: {shape} has not been sampled for {domain.missed} steps, and earned {gain:.2f} more on "
                    f"like problems than the latest {TREND_STEPS}: raise the temperature, shape_entropy_coef or "
                    "num_generations"
                )
        return said

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {
            name: {
                "shapes": {shape: list(met) for shape, met in domain.shapes.items()},
                "sampled": list(domain.sampled),
                "steps": list(domain.steps),
                "best": domain.best,
                "falling": domain.falling,
                "missed": domain.missed,
                "warned": sorted(domain.warned),
            }
            for name, domain in self._domains.items()
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Mapping]`): from `state_dict`.
        """
        self._domains = {
            name: _Domain(
                {shape: deque(_met(rows), maxlen=KEPT_GROUPS) for shape, rows in item["shapes"].items()},
                deque(item["sampled"], maxlen=TREND_STEPS),
                deque(map(_met, item["steps"]), maxlen=TREND_STEPS + REFERENCE_STEPS),
                _met(item["best"]),
                item["falling"],
                item["missed"],
                set(item["warned"]),
            )
            for name, item in state.items()
        }


def _shapes(samples: Iterable[Sample]) -> list[str]:
    """The shapes of valid workflows, each once."""
    return list(dict.fromkeys(sample.shape for sample in samples if sample.shape is not None))


def _mean(samples: Iterable[Sample]) -> float | None:
    rewards = [sample.reward for sample in samples if sample.reward is not None]
    return fmean(rewards) if rewards else None


def _earned(met: Iterable[Met]) -> float:
    """Mean reward; 0 of nothing."""
    rewards = [reward for _, reward in met]
    return fmean(rewards) if rewards else 0.0


def _flat(steps: Iterable[Sequence[Met]]) -> list[Met]:
    return [met for step in steps for met in step]


def _met(rows: Iterable[Sequence[Any]]) -> list[Met]:
    """What JSON has made lists of."""
    return [(problem, reward) for problem, reward in rows]


def _clear(gain: float, error: float) -> bool:
    """Whether a gain is large and beyond chance."""
    return gain >= CLEARLY_BETTER and gain >= CLEAR_ERRORS * error


def _news(domain: _Domain, reason: str, begins: bool, lasts: bool) -> bool:
    """Whether a reason begins to hold that has not been told since it last ceased."""
    told = reason in domain.warned
    (domain.warned.add if begins or (told and lasts) else domain.warned.discard)(reason)
    return begins and not told
