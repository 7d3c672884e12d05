"""A rollout by its benchmark's own metric: the numbers that papers report, beside our tiers.

| benchmarks | metrics |
|---|---|
| GSM8K, MATH, AIME | `accuracy`: equal to the gold answer |
| HumanEval, MBPP, DeepCoder | `pass`: all hidden tests pass; its mean is pass@1 |
| SQuAD, HotpotQA, DROP | `em`, `f1`: exact match and token F1, the best over the gold answers (`qa_metrics.py`) |
"""

from data.problem import Problem
from rewards.graders.qa import answer_scores
from rewards.rollout import Rollout


def benchmark_metrics(rollout: Rollout) -> dict[str, float]:
    """Return the rollout's metrics, each in [0, 1]; empty when the failure was ours.

    A workflow that is invalid, raises or runs out of time has given no answer, and scores 0. So has one whose grade is
    capped because it brought its answer along (`provenance.py`).
    """
    if rollout.grade is None:
        return {}
    domain = rollout.problem.domain
    if domain != "qa":
        return {"pass" if domain == "code" else "accuracy": float(rollout.grade.correct)}
    exact, f1 = _qa(rollout.grade.extracted, rollout.problem) if rollout.grade.tier > 1 else (False, 0.0)
    if rollout.grade.correct:  # by the rules, or by a judge
        return {"em": float(exact), "f1": max(f1, float(exact))}
    return {"em": 0.0, "f1": 0.0} if rollout.grade.capped else {"em": float(exact), "f1": f1}


def _qa(extracted: str | None, problem: Problem) -> tuple[bool, float]:
    """Exact match and F1, the best over the gold answers."""
    scores = [answer_scores(extracted or "", gold, problem) for gold in problem.golds]
    return any(exact for exact, _ in scores), max(f1 for _, f1 in scores)
