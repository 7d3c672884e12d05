"""A rollout by its benchmark's own metric: the numbers that papers report, beside our tiers.

| benchmarks | metrics |
|---|---|
| GSM8K, MATH, AIME | `accuracy`: equal to the gold answer |
| HumanEval, MBPP, DeepCoder | `pass`: all hidden tests pass; its mean is pass@1 |
| SQuAD, HotpotQA, DROP | `em`, `f1`: exact match and token F1, the best over the gold answers (`qa_metrics.py`) |
"""

from rewards.domains import domain_rewards
from rewards.rollout import Rollout


def benchmark_metrics(rollout: Rollout) -> dict[str, float]:
    """Return the rollout's metrics by its domain's row in `rewards/domains.py`, each in [0, 1].

    Empty when the failure was ours. A workflow that is invalid, raises or runs out of time has given no answer, and
    scores 0. So has one whose grade is capped because it brought its answer along (`provenance/`).
    """
    if rollout.grade is None:
        return {}
    return domain_rewards(rollout.problem.domain).metrics(rollout.grade, rollout.problem)
