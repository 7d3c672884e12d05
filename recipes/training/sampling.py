"""The order of training problems: every step close to the domain mix, and the same after a resume as without one."""

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """TRL's sampler, shuffled within each kind of problem.

    TRL shuffles all rows alike, so a step of a few problems has now three of one domain and now none, and its gradient
    says "less of this workflow" for everything when it means one domain. The rows come interleaved by domain and source
    (`data/mixing.py`); here each epoch shuffles the problems of a kind among their own places, which leaves the
    interleaving as it is. The order depends on seed and epoch only, not on what was sampled before.

    Args:
        sampler: TRL's `RepeatSampler`; rows keep their order when it does not shuffle.
        epoch (`Callable[[], int]`): the number of the epoch that starts.
        kinds (`Sequence[Hashable]`): kind of each row, e.g. its source.
    """

    def __init__(self, sampler: Any, epoch: Callable[[], int], kinds: Sequence[Hashable]) -> None:
        self.sampler, self.epoch, self.kinds = sampler, epoch, kinds
        self.shuffle, sampler.shuffle = sampler.shuffle, False

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(self.sampler)
        order = shuffled_within(self.kinds, random.Random(f"{self.sampler.seed} {self.epoch()}"))
        return (order[index] for index in self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


def shuffled_within(kinds: Sequence[Hashable], rng: random.Random) -> list[int]:
    """Return a permutation of the row numbers that gives every place a row of the kind it had."""
    rows: dict[Hashable, list[int]] = {}
    for row, kind in enumerate(kinds):
        rows.setdefault(kind, []).append(row)
    for places in rows.values():
        rng.shuffle(places)
    return [rows[kind].pop() for kind in kinds]
