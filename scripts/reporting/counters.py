"""What the report needs of one rollout, and counters over many: by step, by domain, that can be merged."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Generic, TypeVar

from data.problem import DOMAINS
from rewards.tiers import TIER_REWARDS
from scripts.reporting.reading import Row, mapping, number, one_line, sequence

MAX_BINS = 300
MAX_OPERATORS = 40
OTHER = "other"
OUTCOMES = ("ok", "policy_error", "timeout", "infra_error")
# What a rollout's reward was given for, when an old file has the reward and no tier.
_TIER_OF = {reward: tier for tier, reward in TIER_REWARDS.items()}


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """What the report needs of one row of rollouts.jsonl, heldout.jsonl or rows.jsonl.

    Args:
        step (`int`, *optional*): GRPO step; only a training rollout has one.
        phase (`str`): `"before"` or `"after"` of a held-out row, else empty.
        problem (`str`): source and id.
        domain (`str`): a known one, or `"other"`.
        workflow (`bytes`): digest of the workflow; empty when it did not parse.
        invalid (`str`): why it did not parse, else empty.
        outcome (`str`): one of `OUTCOMES`, or `"other"`.
        reward (`float`, *optional*): of its tier.
        tier (`int`, *optional*): 1 to 5.
        advantage (`float`, *optional*): what GRPO made of it.
        operators (`tuple[str, ...]`): operator calls in order.
        tokens (`float`): executor tokens.
        cost_usd (`float`): price of its executor calls.
        seconds (`float`, *optional*): wall time of its workflow.
    """

    step: int | None
    phase: str
    problem: str
    domain: str
    workflow: bytes
    invalid: str
    outcome: str
    reward: float | None
    tier: int | None
    advantage: float | None
    operators: tuple[str, ...]
    tokens: float
    cost_usd: float
    seconds: float | None

    @classmethod
    def of(cls, row: Row) -> "RolloutFacts":
        """Read a row, with nothing where it has nothing usable."""
        trace, grade = mapping(row.get("trace")), mapping(row.get("grade"))
        step, reward = number(row.get("step")), number(row.get("reward"))
        tier = number(grade.get("tier")) or (None if reward is None else _TIER_OF.get(reward))
        workflow = row.get("workflow") if isinstance(row.get("workflow"), str) else None
        domain = one_line(row.get("domain"), 40)
        calls = [mapping(call) for call in sequence(trace.get("calls"))]
        return cls(
            step=None if step is None else int(step),
            phase=one_line(row.get("phase"), 20),
            problem=f"{one_line(row.get('source'), 40)}/{one_line(row.get('id'), 40)}",
            domain=domain if domain in DOMAINS else OTHER,
            workflow=digest(workflow) if workflow is not None else b"",
            invalid=one_line(row.get("invalid"), 100),
            outcome=row["outcome"] if row.get("outcome") in OUTCOMES else OTHER,
            reward=reward,
            tier=int(tier) if tier in TIER_REWARDS else None,
            advantage=number(row.get("advantage")),
            operators=tuple(one_line(call.get("operator"), 30) or "?" for call in calls),
            tokens=(number(trace.get("prompt_tokens")) or 0.0) + (number(trace.get("completion_tokens")) or 0.0),
            cost_usd=number(trace.get("cost_usd")) or 0.0,
            seconds=number(trace.get("seconds")),
        )


def digest(workflow: str) -> bytes:
    """Return what stands for a workflow's whole text."""
    return blake2b(workflow.encode("utf-8", "replace"), digest_size=12).digest()


M = TypeVar("M", "Mean", "ByDomain")


class StepBins(Generic[M]):
    """One counter for each range of steps; the ranges double in width whenever there would be too many of them.

    Args:
        make (`Callable`): returns an empty counter.
        limit (`int`): most ranges.
    """

    def __init__(self, make: Callable[[], M], limit: int = MAX_BINS) -> None:
        self.make: Callable[[], M] = make
        self.limit, self.width = limit, 1
        self._bins: dict[int, M] = {}

    def at(self, step: int) -> M:
        """Return the counter that a step belongs to."""
        if step // self.width not in self._bins:
            self._bins[step // self.width] = self.make()
            while len(self._bins) > self.limit:
                self._widen()
        return self._bins[step // self.width]

    def _widen(self) -> None:
        self.width *= 2
        narrow, self._bins = self._bins, {}
        for index, counter in narrow.items():
            self._bins.setdefault(index // 2, self.make()).merge(counter)

    def items(self) -> list[tuple[int, M]]:
        """Return (first step, counter) in order of the steps."""
        return [(index * self.width, counter) for index, counter in sorted(self._bins.items())]

    def coarser(self, limit: int) -> "StepBins[M]":
        """Return a copy with at most `limit` ranges."""
        copy = StepBins(self.make, limit)
        copy.width = self.width
        for step, counter in self.items():
            copy.at(step).merge(counter)
        return copy

    def __len__(self) -> int:
        return len(self._bins)


@dataclass
class Mean:
    """A mean that can be merged."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Count one value."""
        self.total += value
        self.count += 1

    def merge(self, other: "Mean") -> None:
        """Count the other's values too."""
        self.total += other.total
        self.count += other.count

    @property
    def value(self) -> float | None:
        """The mean, `None` of nothing."""
        return self.total / self.count if self.count else None


@dataclass
class Totals:
    """Counters over some rollouts."""

    rollouts: int = 0
    valid: int = 0
    reward: Mean = field(default_factory=Mean)
    tokens: float = 0.0
    cost_usd: float = 0.0
    tiers: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)

    def add(self, rollout: RolloutFacts) -> None:
        """Count one rollout."""
        self.rollouts += 1
        self.valid += bool(rollout.workflow)
        if rollout.reward is not None:
            self.reward.add(rollout.reward)
        self.tokens += rollout.tokens
        self.cost_usd += rollout.cost_usd
        if rollout.tier is not None:
            self.tiers[rollout.tier] += 1
        self.outcomes[rollout.outcome] += 1
        for name in rollout.operators:
            self.operators[name if name in self.operators or len(self.operators) < MAX_OPERATORS else OTHER] += 1

    def merge(self, other: "Totals") -> None:
        """Count the other's rollouts too."""
        self.rollouts += other.rollouts
        self.valid += other.valid
        self.reward.merge(other.reward)
        self.tokens += other.tokens
        self.cost_usd += other.cost_usd
        self.tiers.update(other.tiers)
        self.outcomes.update(other.outcomes)
        self.operators.update(other.operators)


@dataclass
class ByDomain:
    """Counters over some rollouts, one domain apart from the other."""

    domains: dict[str, Totals] = field(default_factory=dict)

    def add(self, rollout: RolloutFacts) -> None:
        """Count one rollout."""
        self.domains.setdefault(rollout.domain, Totals()).add(rollout)

    def merge(self, other: "ByDomain") -> None:
        """Count the other's rollouts too."""
        for domain, totals in other.domains.items():
            self.domains.setdefault(domain, Totals()).merge(totals)

    @property
    def all(self) -> Totals:
        """All domains together."""
        together = Totals()
        for totals in self.domains.values():
            together.merge(totals)
        return together
