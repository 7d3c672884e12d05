"""An entropy bonus over designs: what keeps a policy from settling on the first workflow that does well.

TRL's `entropy_coef` raises the entropy of every token, so of how a workflow is worded, and of whether it parses at all.
This one raises the entropy over *shapes* (`diagnostics.shape_of`) within a domain, and leaves the wording alone.
"""

import math
from collections import Counter
from collections.abc import Sequence

from rewards.diagnostics import Sample


def shape_entropy_advantages(samples: Sequence[Sample], group_size: int, coef: float) -> list[float]:
    """Return what the entropy bonus adds to the advantages.

        a_i = coef * (s_i - mean of s over its group),    s_i = -ln(share of its shape in the domain's samples)

    The gradient of the entropy of a distribution p is the expectation of `-ln p(x) * grad ln p(x)`, so this is the
    policy gradient of `coef` times the entropy over shapes, with p counted in the batch: the maximum-entropy bonus of
    A3C (https://arxiv.org/abs/1602.01783), for designs instead of tokens. With advantages of unit deviation, shapes
    `x` and `y` are kept about as likely as `exp((A_x - A_y) / coef)` to 1.

    Args:
        samples (`Sequence[Sample]`): of one step, whole groups, `group_size` consecutive ones each.
        group_size (`int`): K.
        coef (`float`): at least 0.

    Returns:
        `list[float]`: one a sample, in units of the advantages. A sample without a valid workflow, or with one that
        asks no operator, is as the commonest possible, `s = 0`: nothing is gained by being useless in a new way. One
        without a reward gets 0 and counts for nobody.

    Raises:
        ValueError: `group_size` does not divide the number of samples.
    """
    if group_size < 1 or len(samples) % group_size:
        raise ValueError(f"num_generations={group_size} does not divide {len(samples)} samples")
    counted = [sample for sample in samples if sample.reward is not None]
    shapes = Counter((sample.domain, sample.shape) for sample in counted)
    totals = Counter(sample.domain for sample in counted)
    added = [0.0] * len(samples)
    for start in range(0, len(samples), group_size):
        surprisals = {
            index: math.log(totals[sample.domain] / shapes[sample.domain, sample.shape]) if sample.shape else 0.0
            for index, sample in enumerate(samples[start : start + group_size], start)
            if sample.reward is not None
        }
        for index, surprisal in surprisals.items():
            added[index] = coef * (surprisal - math.fsum(surprisals.values()) / len(surprisals))
    return added
