"""WA-GRPO: break ties inside a group by the workflows themselves.

A group whose rewards are all equal gives GRPO no gradient. There, and only there, each reward gets a bonus of at most
`alpha`, which is below the smallest gap between two tiers, so a tie-break never reorders tiers:

    r_i += alpha * t_i,    t_i = min-max over the group of
        0.35 diversity + 0.25 revise_gain + 0.20 exec_success + 0.10 efficiency + 0.10 op_variety

A workflow that never ran has `t = 0`, and its text counts for nobody's diversity: difference among garbage is worth
nothing. Functions here take whole groups; who trains on several processes gathers first and slices after.
"""

import ast
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from aflow_ops.language.workflow import SOURCE_NAME
from rewards.tiers import TIER_REWARDS

# Rewards closer together than this are equal.
SPREAD = 1e-6
FEATURES = ("diversity", "revise_gain", "exec_success", "efficiency", "op_variety")
NO_LOOP_GAIN, VAIN_GAIN = 0.5, 0.3
EXEC_SUCCESS: dict[str, float] = {"ok": 1.0, "timeout": 0.3, "policy_error": 0.2, "invalid": 0.1}
_SMALLEST_GAP = min(abs(a - b) for a in TIER_REWARDS.values() for b in TIER_REWARDS.values() if a != b)

Ending = Literal["ok", "timeout", "policy_error", "invalid", "infra_error"]


@dataclass(frozen=True)
class WAGRPOConfig:
    """Weights of the tie-break.

    Args:
        enabled (`bool`): whether ties are broken at all.
        alpha (`float`): largest bonus; at least 0 and below the smallest gap between two tiers' rewards.
        diversity, revise_gain, exec_success, efficiency, op_variety (`float`): weights, at least 0.
        features (`tuple[str, ...]`): names of those that count; the others weigh nothing.

    Raises:
        ValueError: a value is out of range.
    """

    enabled: bool = True
    alpha: float = 0.12
    diversity: float = 0.35
    revise_gain: float = 0.25
    exec_success: float = 0.20
    efficiency: float = 0.10
    op_variety: float = 0.10
    features: tuple[str, ...] = FEATURES

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each feature that counts."""
        return {name: getattr(self, name) for name in FEATURES if name in self.features}

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < _SMALLEST_GAP - SPREAD:
            raise ValueError(
                f"wa_alpha={self.alpha} must be at least 0 and below {_SMALLEST_GAP:g}, the smallest gap between two "
                "tiers, or a tie-break could reorder tiers"
            )
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown:
            raise ValueError(f"wa_features: {unknown[0]!r} is not one of {', '.join(FEATURES)}")
        for name in FEATURES:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"wa_{name}={getattr(self, name)} must be a number of at least 0")


@dataclass(frozen=True)
class WorkflowFeatures:
    """What a tie-break looks at, for one rollout. Small and picklable: it travels between processes.

    Args:
        text (`str`): the workflow as written; empty when it never parsed.
        nodes (`Mapping[str, int]`): how often each AST node type occurs in its Python form.
        ending (`str`): outcome of its run, or `"invalid"` when it never ran.
        tokens (`int`): executor tokens of the run, cached replies included.
        operators_used (`int`): distinct operators called in the run.
        operators_available (`int`): operators that fit the problem.
        revise_gain (`float`): in [0, 1]; 0.5 without a Revise or Test, see `revise_gain`.
    """

    text: str = ""
    nodes: Mapping[str, int] | None = None
    ending: Ending = "invalid"
    tokens: int = 0
    operators_used: int = 0
    operators_available: int = 1
    revise_gain: float = NO_LOOP_GAIN

    @property
    def ran(self) -> bool:
        """Whether the workflow was run at all and its end says something about it."""
        return self.ending not in ("invalid", "infra_error")


@dataclass(frozen=True)
class AdjustedRewards:
    """Rewards after the tie-break, in the order given, and means to log."""

    rewards: list[float | None]
    metrics: dict[str, float]


def node_counts(source: str) -> dict[str, int]:
    """Count the AST node types of Python code; empty when it does not parse."""
    try:
        return dict(Counter(type(node).__name__ for node in ast.walk(ast.parse(source, SOURCE_NAME))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def revise_gain(before: float, after: float) -> float:
    """Score of a Revise or Test loop from the rewards of the answers before and after it, each in [0, 1].

    `0.5 + 0.5 * gain` when it helped, 0.3 when it was tried in vain.
    """
    return 0.5 + 0.5 * (after - before) if after > before else VAIN_GAIN


def workflow_distance(left: WorkflowFeatures, right: WorkflowFeatures) -> float:
    """Distance in [0, 1]: `0.6 (1 - Jaccard of character 3-grams) + 0.4 (1 - cosine of AST node counts)`."""
    a, b = _trigrams(left.text), _trigrams(right.text)
    jaccard = len(a & b) / len(a | b) if a | b else 1.0
    return 0.6 * (1 - jaccard) + 0.4 * (1 - _cosine(left.nodes or {}, right.nodes or {}))


def zero_signal_groups(rewards: Sequence[float | None], group_size: int) -> list[bool]:
    """Tell which groups have no two different rewards.

    Args:
        rewards (`Sequence[float | None]`): `group_size` consecutive rewards a group; `None` is left out.
        group_size (`int`): K.

    Raises:
        ValueError: `group_size` does not divide the number of rewards.
    """
    return [_is_tied(group) for group in _groups(rewards, group_size)]


def adjust_groups(
    rewards: Sequence[float | None], features: Sequence[WorkflowFeatures], group_size: int, config: WAGRPOConfig
) -> AdjustedRewards:
    """Break the ties of whole groups.

    Args:
        rewards (`Sequence[float | None]`): in [0, 1], `group_size` consecutive rewards a group; `None` stays `None`.
        features (`Sequence[WorkflowFeatures]`): one for each reward.
        group_size (`int`): K.
        config (`WAGRPOConfig`): weights.

    Returns:
        `AdjustedRewards`: metrics are `zero_signal_before`, `zero_signal_after` (shares of groups) and the mean of
        each feature over the workflows of tied groups (absent when no group is tied).

    Raises:
        ValueError: `group_size` does not divide the number of rewards, or the lengths differ.
    """
    if len(rewards) != len(features):
        raise ValueError(f"{len(rewards)} rewards but {len(features)} features")
    adjusted: list[float | None] = []
    seen: list[dict[str, float]] = []
    groups = _groups(rewards, group_size)
    for index, group in enumerate(groups):
        if not config.enabled or not _is_tied(group):
            adjusted += group
            continue
        scored = [i for i, reward in enumerate(group) if reward is not None]
        members = [features[index * group_size + i] for i in scored]
        components = [_components(member, members) for member in members]
        seen += components
        bonus = dict(zip(scored, tie_breaks(members, components, config), strict=True))
        adjusted += [None if r is None else r + config.alpha * bonus[i] for i, r in enumerate(group)]
    metrics = {
        "zero_signal_before": _share(_is_tied(group) for group in groups),
        "zero_signal_after": _share(_is_tied(group) for group in _groups(adjusted, group_size)),
    }
    if seen:
        metrics |= {name: fmean(item[name] for item in seen) for name in seen[0]}
    return AdjustedRewards(adjusted, metrics)


def tie_breaks(
    members: Sequence[WorkflowFeatures], components: Sequence[Mapping[str, float]], config: WAGRPOConfig
) -> list[float]:
    """Return `t` in [0, 1] for every member of a tied group; 0 for those that never ran, and for all when equal."""
    scores = [sum(weight * item[name] for name, weight in config.weights.items()) for item in components]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    if high - low < SPREAD:
        return [0.0] * len(members)
    return [(score - low) / (high - low) if member.ran else 0.0 for member, score in zip(members, scores, strict=True)]


def _components(member: WorkflowFeatures, group: Sequence[WorkflowFeatures]) -> dict[str, float]:
    if not member.ran:
        return {
            "diversity": 0.0,
            "revise_gain": 0.0,
            "exec_success": EXEC_SUCCESS["invalid"],
            "efficiency": 0.0,
            "op_variety": 0.0,
        }
    return {
        "diversity": _diversity(member, group),
        "revise_gain": member.revise_gain,
        "exec_success": EXEC_SUCCESS[member.ending],
        "efficiency": _efficiency(member, group),
        "op_variety": min(1.0, member.operators_used / max(1, member.operators_available)),
    }


def _diversity(member: WorkflowFeatures, group: Sequence[WorkflowFeatures]) -> float:
    others = [other for other in group if other is not member and other.ran]
    return fmean(workflow_distance(member, other) for other in others) if others else 0.0


def _efficiency(member: WorkflowFeatures, group: Sequence[WorkflowFeatures]) -> float:
    """1 for the cheapest in executor tokens, 0 for the dearest; 0 without a call: asking nobody is not thrift."""
    spent = [other.tokens for other in group if other.ran and other.operators_used]
    if not member.operators_used:
        return 0.0
    low, high = min(spent), max(spent)
    return 1.0 if high == low else (high - member.tokens) / (high - low)


def _groups(rewards: Sequence[float | None], group_size: int) -> list[list[float | None]]:
    if group_size < 1 or len(rewards) % group_size:
        raise ValueError(f"num_generations={group_size} does not divide {len(rewards)} rewards")
    return [list(rewards[start : start + group_size]) for start in range(0, len(rewards), group_size)]


def _is_tied(group: Sequence[float | None]) -> bool:
    values = [reward for reward in group if reward is not None]
    return not values or max(values) - min(values) < SPREAD


def _share(flags: Iterable[bool]) -> float:
    values = [float(flag) for flag in flags]
    return fmean(values) if values else 0.0


def _trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(max(len(text) - 2, 1))} if text else set()


def _cosine(left: Mapping[str, int], right: Mapping[str, int]) -> float:
    if not left or not right:
        return 0.0
    product = sum(count * right.get(name, 0) for name, count in left.items())
    norm = math.sqrt(sum(c * c for c in left.values())) * math.sqrt(sum(c * c for c in right.values()))
    return min(1.0, product / norm)
