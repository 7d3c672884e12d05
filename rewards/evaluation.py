"""What graded rows add up to."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from rewards.statistics import bootstrap_mean, pass_at_k

Row = Mapping[str, Any]
Key = tuple[str, str]

# pass@k is reported for these k where there are samples enough.
DEFAULT_PASS_K = (1, 2, 4, 8, 16, 32, 64)


def summarize_rows(rows: Sequence[Row], pass_k: Sequence[int] = DEFAULT_PASS_K) -> dict[str, Any]:
    """Add up graded rows (`Rollout.to_row()`), with the keys of `scripts/evaluate.py`'s `summary.json`.

    Means are over graded rows: an infrastructure error is nobody's wrong answer, and is counted in `outcomes`.
    Intervals are 95 % bootstrap intervals over problems.

    Args:
        rows (`Sequence[Mapping]`): one a problem and sample; `metrics` is optional.
        pass_k (`Sequence[int]`): the k of pass@k; those above the fewest graded samples of a problem are left out.

    Returns:
        `dict`: `n`, `reward`, `correct`, `valid`, `reward_ci95`, `correct_ci95`, `by_domain`, `metrics` (by source),
        `outcomes`, `pass_at_k`, `cost_usd`, `tokens`, `per_problem`; the means are `None` when nothing was graded.
    """
    domains = sorted({row["domain"] for row in rows})
    outcomes = Counter(row["outcome"] for row in rows)
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    cost = sum(trace["cost_usd"] for trace in traces)
    tokens = sum(trace["prompt_tokens"] + trace["completion_tokens"] for trace in traces)
    replies = sum(call.get("replies", 0) for trace in traces for call in trace["calls"])
    per_row = {"cost_usd": cost, "tokens": tokens, "calls": replies}
    return {
        **_means(rows),
        "reward_ci95": _interval(rows, lambda row: row["reward"]),
        "correct_ci95": _interval(rows, lambda row: row["correct"]),
        "by_domain": {domain: _means([row for row in rows if row["domain"] == domain]) for domain in domains},
        "metrics": _metrics(rows),
        "outcomes": {name: outcomes[name] for name in ("ok", "policy_error", "timeout", "infra_error")},
        "pass_at_k": _pass_at_k(rows, pass_k),
        "cost_usd": cost,
        "tokens": tokens,
        "per_problem": {name: value / len(rows) for name, value in per_row.items()} if rows else {},
    }


def reward_of(row: Row) -> float | None:
    """Return a row's reward; `None` where the run failed through no fault of its own."""
    reward: float | None = row["reward"]
    return reward


def by_problem(rows: Sequence[Row], value: Callable[[Row], float | None] = reward_of) -> dict[Key, float]:
    """Return the mean of a value, the reward by default, over each problem's graded rows, by source and id."""
    values: dict[Key, list[float]] = {}
    for row in rows:
        if row["reward"] is not None and (number := value(row)) is not None:
            values.setdefault((row["source"], row["id"]), []).append(float(number))
    return {key: fmean(numbers) for key, numbers in values.items()}


def _means(rows: Sequence[Row]) -> dict[str, Any]:
    graded = [row for row in rows if row["reward"] is not None]
    return {
        "n": len({(row["source"], row["id"]) for row in rows}),
        "reward": _mean(row["reward"] for row in graded),
        "correct": _mean(float(row["correct"]) for row in graded),
        "valid": _mean(float(row["workflow"] is not None) for row in rows),
    }


def _interval(rows: Sequence[Row], value: Callable[[Row], float | None]) -> list[float] | None:
    values = list(by_problem(rows, value).values())
    return list(bootstrap_mean(values, seed=0)[1:]) if values else None


def _metrics(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Mean and interval of every benchmark metric, by source."""
    found: dict[str, dict[str, Any]] = {}
    for source in sorted({row["source"] for row in rows}):
        own = [row for row in rows if row["source"] == source]
        for name in sorted({name for row in own for name in row.get("metrics") or {}}):
            values = list(by_problem(own, partial(_metric, name)).values())
            mean, low, high = bootstrap_mean(values, seed=0)
            found.setdefault(source, {})[name] = {"mean": mean, "ci95": [low, high], "n": len(values)}
    return found


def _metric(name: str, row: Row) -> float | None:
    metrics: Mapping[str, float] = row.get("metrics") or {}
    return metrics.get(name)


def _pass_at_k(rows: Sequence[Row], ks: Sequence[int]) -> dict[str, float]:
    """pass@k for every k up to the smallest number of graded samples that a problem has."""
    problems: dict[Key, list[bool]] = {}
    for row in rows:
        if row["reward"] is not None:
            problems.setdefault((row["source"], row["id"]), []).append(bool(row["correct"]))
    fewest = min((len(samples) for samples in problems.values()), default=0)
    return {
        str(k): fmean(pass_at_k(len(s), sum(s), k) for s in problems.values()) for k in sorted(set(ks)) if k <= fewest
    }


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return fmean(numbers) if numbers else None
