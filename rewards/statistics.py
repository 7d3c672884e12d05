"""The statistics that an evaluation reports: pass@k, and bootstrap intervals of a mean and of a gain."""

from collections.abc import Sequence
from math import comb, sqrt

import numpy as np


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
