"""The order of training problems, the same after a resume as without one."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """TRL's sampler, with the order that its epochs have in a run that never stopped.

    TRL's own draws every epoch from one generator, so a run that was resumed in its third epoch would see the first
    one's order again. Here the generator is brought to where it would be.

    Args:
        sampler: TRL's `RepeatSampler`.
        epoch (`Callable[[], int]`): the number of the epoch that starts.
    """

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self) -> Iterator[int]:
        if self.sampler.shuffle:
            self.sampler.generator.manual_seed(self.sampler.seed)
            for _ in range(self.epoch()):
                torch.randperm(self.sampler.num_samples, generator=self.sampler.generator)
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)
