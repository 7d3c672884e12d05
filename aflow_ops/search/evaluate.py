"""Evaluate a candidate: repeats on a validation slice, in rungs that a poor candidate does not get through.

Successive halving (Jamieson & Talwalkar, 2016, arXiv:1502.07943) runs every candidate on a few problems and only the
better ones on more. Candidates come one wave at a time here, so the rule is a race against the best node so far
(Birattari et al., 2002): after each rung a candidate goes on unless it is worse on the very same problems by more than
their spread explains. Without halving every candidate is run on the whole slice, as AFlow does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Protocol

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import FatalExecutorError, InfraError
from aflow_ops.search.node import Sample

# A failure of ours is tried again so many times before it stops the search; it never becomes a score.
INFRA_RETRIES = 2
# A candidate is given up when its loss on shared problems passes so many standard errors. The spread of a few rewards
# says little: it is that of the rewards and of so many imagined ones that are half a reward apart.
LOSS_ERRORS = 1.5
IMAGINED, IMAGINED_SPREAD = 2, 0.5


class Evaluate(Protocol):
    """Runs one workflow on one problem and grades the answer."""

    async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
        """Run once.

        Args:
            workflow (`str`): what to run, as text; the callable parses it for the problem's domain.
            problem (`str`): id of the problem.
            repeat (`int`): which of several independent runs this is.

        Raises:
            InfraError: a failure of ours: the run says nothing about the workflow.
            FatalExecutorError: no other run would fare better, or the budget is spent.
        """
        ...


@dataclass(frozen=True)
class Rungs:
    """How the validation slice is spent on a candidate.

    Args:
        problems (`tuple[str, ...]`): ids, in the order in which they are spent.
        repeats (`int`): runs of each problem.
        halving (`bool`): whether poor candidates are given up early.
        first (`int`): problems of the first rung; each further rung doubles them.
    """

    problems: tuple[str, ...]
    repeats: int = 1
    halving: bool = True
    first: int = 4

    def sizes(self) -> list[int]:
        """Return after how many problems each rung ends."""
        whole = len(self.problems)
        if not self.halving:
            return [whole]
        sizes = []
        size = self.first
        while size < whole:
            sizes.append(size)
            size *= 2
        return [*sizes, whole]


async def run_candidate(
    workflow: str, evaluate: Evaluate, rungs: Rungs, best: Mapping[str, Sequence[float]]
) -> dict[str, list[Sample]]:
    """Run a candidate rung by rung, the problems of a rung at once.

    Args:
        workflow (`str`): its text.
        evaluate (`Evaluate`): runs it once.
        rungs (`Rungs`): how the slice is spent.
        best (`Mapping[str, Sequence[float]]`): rewards of the best node so far, by problem; empty for a root.

    Returns:
        `dict` of the samples of every problem that it was run on.

    Raises:
        InfraError: a run failed again and again through no fault of the workflow's.
    """
    samples: dict[str, list[Sample]] = {}
    for size in rungs.sizes():
        rung = [problem for problem in rungs.problems[:size] if problem not in samples]
        runs = [(problem, repeat) for problem in rung for repeat in range(rungs.repeats)]
        done = await gather_or_cancel(graded(evaluate, workflow, problem, repeat) for problem, repeat in runs)
        for (problem, _), sample in zip(runs, done, strict=True):
            samples.setdefault(problem, []).append(sample)
        if is_hopeless(samples, best):
            break
    return samples


def is_hopeless(samples: Mapping[str, Sequence[Sample]], best: Mapping[str, Sequence[float]]) -> bool:
    """Whether a candidate loses to the best node on the problems that both were run on, beyond their spread."""
    shared = [problem for problem in samples if problem in best]
    if len(shared) < 2:
        return False
    gains = [fmean(sample.reward for sample in samples[problem]) - fmean(best[problem]) for problem in shared]
    return fmean(gains) < -LOSS_ERRORS * standard_error(gains)


def standard_error(gains: Sequence[float]) -> float:
    """Return the standard error of the mean of at least one difference in reward, cautious where they are few."""
    own = len(gains) - 1
    variance = stdev(gains) ** 2 if own else 0.0
    return math.sqrt((own * variance + IMAGINED * IMAGINED_SPREAD**2) / (own + IMAGINED) / len(gains))


async def graded(evaluate: Evaluate, workflow: str, problem: str, repeat: int) -> Sample:
    """Run once, and again where the failure was ours.

    Raises:
        InfraError: it failed `INFRA_RETRIES` times more.
        FatalExecutorError: at once.
    """
    for attempt in range(INFRA_RETRIES + 1):
        try:
            return await evaluate(workflow, problem, repeat)
        except FatalExecutorError:
            raise
        except InfraError:
            if attempt == INFRA_RETRIES:
                raise
    raise AssertionError("unreachable")
