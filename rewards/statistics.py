"""The statistics of an evaluation (pass@k, bootstrap intervals) and of a run as it trains (`like_with_like`)."""

from collections.abc import Iterable, Sequence
from math import comb, hypot, inf, sqrt
from statistics import fmean

import numpy as np

from aflow_ops.search.evaluate import standard_error

# From so many problems on that were met both times, each is compared with itself.
MIN_SHARED = 5


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], *, seed: int, resamples: int = 10_000
) -> tuple[float, float, float]:
    """Mean gain with its 95 % percentile bootstrap interval, resampling problems (Efron & Tibshirani, 1993, ch. 13).

    Args:
        before (`Sequence[float]`): one value a problem.
        after (`Sequence[float]`): the same problems in the same order.
        seed (`int`): seed of the resampling.
        resamples (`int`): number of resamples.

    Returns:
        `tuple` of gain, low and high; all NaN without problems.

    Raises:
        ValueError: the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before but {len(after)} after")
    return bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], seed=seed, resamples=resamples)


def bootstrap_mean(values: Sequence[float], *, seed: int, resamples: int = 10_000) -> tuple[float, float, float]:
    """Mean with its 95 % percentile bootstrap interval.

    Args:
        values (`Sequence[float]`): one value a problem.
        seed (`int`): seed of the resampling.
        resamples (`int`): number of resamples.

    Returns:
        `tuple` of mean, low and high; all NaN without values.
    """
    if not values:
        return (float("nan"),) * 3
    array, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    block = max(1, 2_000_000 // len(array))  # a few megabytes at a time
    means = np.concatenate(
        [
            rng.choice(array, size=(min(block, resamples - start), len(array))).mean(axis=1)
            for start in range(0, resamples, block)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(array.mean()), float(low), float(high)


def like_with_like(now: Sequence[tuple[str, float]], before: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """How much more is earned than before, and the standard error of that, whichever problems were drawn.

    Where enough problems were met both times, each is compared with itself. Elsewhere the two means over problems are
    compared, and the error holds the spread between problems (Welch, 1947).

    Args:
        now (`Sequence[tuple[str, float]]`): a problem's name and a reward, one pair for each time that it was met.
        before (`Sequence[tuple[str, float]]`): likewise.

    Returns:
        `tuple` of difference and standard error; 0 and infinity where one side has nothing.
    """
    late, early = _means(now), _means(before)
    shared = sorted(late.keys() & early.keys())
    if len(shared) >= MIN_SHARED:
        gains = [late[name] - early[name] for name in shared]
        return fmean(gains), standard_error(gains)
    if not late or not early:
        return 0.0, inf
    difference = fmean(late.values()) - fmean(early.values())
    return difference, hypot(standard_error(list(late.values())), standard_error(list(early.values())))


def _means(met: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean reward of each problem."""
    rewards: dict[str, list[float]] = {}
    for name, reward in met:
        rewards.setdefault(name, []).append(reward)
    return {name: fmean(values) for name, values in rewards.items()}


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that one of `k` samples is right (Chen et al., 2021, arXiv:2107.03374, eq. 1).

    Args:
        samples (`int`): samples drawn for the problem, at least `k`.
        correct (`int`): how many were right.
        k (`int`): samples allowed.

    Raises:
        ValueError: not `0 <= correct <= samples` or not `1 <= k <= samples`.
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {correct} right among {samples} samples is not defined")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson, 1927), which stays sensible near 0 and 1.

    Args:
        share (`float`): in [0, 1].
        count (`int`): independent trials, at least 1.

    Raises:
        ValueError: out of range.
    """
    if not (0.0 <= share <= 1.0 and count >= 1):
        raise ValueError(f"a share of {share} in {count} trials is not defined")
    z = 1.959964
    spread = z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    middle = share + z**2 / (2 * count)
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
