"""Evaluate a candidate: repeats on a validation slice, in rungs that a poor candidate does not get through.

Successive halving (Jamieson & Talwalkar, 2016, arXiv:1502.07943) runs every candidate on a few problems and only the
better ones on more. Candidates come one wave at a time here, so the rule is a race against the best node so far
(Birattari et al., 2002): after each rung a candidate goes on unless it is worse on the very same problems by more than
their spread explains. What the search starts from is raced likewise, against the best among it. Without halving every
candidate is run on the whole slice, as AFlow does.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Protocol

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import CallRefusedError, FatalExecutorError, InfraError
from aflow_ops.search.node import Node, Objective, Sample, Spend, validation_of

# A failure of ours is tried again so many times before it stops the search; it never becomes a score.
INFRA_RETRIES = 2
# A candidate is given up when its loss on shared problems passes so many standard errors. The spread of a few rewards
# says little: it is that of the rewards and of so many imagined ones that are half a reward apart.
LOSS_ERRORS = 1.5
IMAGINED, IMAGINED_SPREAD = 2, 0.5
# Problems of each kind that a candidate is run on before it may be given up: it may be good for one kind alone, and a
# branch for that kind is learned from these.
FIRST_OF_A_KIND = 4


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
            CallRefusedError: one that is there again whenever this is run: the problem has no score.
            FatalExecutorError: no other run would fare better, or the budget is spent.
        """
        ...


class Runs(dict[str, list[Sample]]):
    """The samples of one workflow by problem.

    Attributes:
        refused (`dict[str, str]`): problems without a score, for the executor refuses a call of the workflow's on them
            (a content filter, a prompt that is too long), each with what it says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, str] = {}


@dataclass(frozen=True)
class Rungs:
    """How the validation slice is spent on a candidate.

    Args:
        problems (`tuple[str, ...]`): ids, in the order in which they are spent.
        repeats (`int`): runs of each problem.
        halving (`bool`): whether poor candidates are given up early.
        first (`int`): problems of the first rung, at least a fifth of them all; each further rung doubles them.
        objective, price_per_usd: what a candidate is compared by, see `Node.score`.
    """

    problems: tuple[str, ...]
    repeats: int = 1
    halving: bool = True
    first: int = FIRST_OF_A_KIND
    objective: Objective = "reward"
    price_per_usd: float = 0.0

    def worth(self, sample: Sample) -> float:
        """Return what a run is worth by the search's objective."""
        value = sample.reward if self.objective == "reward" else float(sample.correct)
        return value - self.price_per_usd * sample.cost_usd

    def worths(self, node: Node) -> dict[str, list[float]]:
        """Return what the runs of a node are worth, by problem; each at the mean price of all."""
        spent, by_reward = self.price_per_usd * node.usd_per_problem, self.objective == "reward"
        return {
            key: [(reward if by_reward else float(reward >= 1.0)) - spent for reward in rewards]
            for key, rewards in node.per_problem.items()
        }

    def sizes(self) -> list[int]:
        """Return after how many problems each rung ends."""
        whole = len(self.problems)
        if not self.halving:
            return [whole]
        sizes = []
        size = max(self.first, whole // 5)
        while size < whole:
            sizes.append(size)
            size *= 2
        return [*sizes, whole]


async def run_candidate(workflow: str, evaluate: Evaluate, rungs: Rungs, best: Mapping[str, Sequence[float]]) -> Runs:
    """Run a candidate rung by rung, the problems of a rung at once.

    Args:
        workflow (`str`): its text.
        evaluate (`Evaluate`): runs it once.
        rungs (`Rungs`): how the slice is spent.
        best (`Mapping[str, Sequence[float]]`): what the runs of the best node so far are worth, by problem
            (`Rungs.worths`); empty for a root.

    Returns:
        `Runs`: the samples of every problem that it was run on.

    Raises:
        InfraError: a run failed again and again through no fault of the workflow's.
    """
    samples = Runs()
    for size in rungs.sizes():
        await run_on(samples, workflow, evaluate, rungs.problems[:size], rungs.repeats)
        if is_hopeless(samples, best, rungs.worth):
            break
    return samples


async def race(workflows: Sequence[str], evaluate: Evaluate, rungs: Rungs) -> list[Runs]:
    """Run several workflows side by side, rung by rung; each is given up when it loses to the best of them.

    Args:
        workflows (`Sequence[str]`): their texts. A single one is run on the whole slice.
        evaluate (`Evaluate`): runs one once.
        rungs (`Rungs`): how the slice is spent.

    Returns:
        `list` of each workflow's samples, by problem.

    Raises:
        InfraError: see `run_candidate`.
    """
    ran = [Runs() for _ in workflows]
    going = list(range(len(workflows)))
    for size in rungs.sizes():
        problems = rungs.problems[:size]
        await gather_or_cancel(
            run_on(ran[index], workflows[index], evaluate, problems, rungs.repeats) for index in going
        )
        worths = {index: _worths(ran[index], rungs.worth) for index in going}
        best = max(going, key=lambda index: fmean(map(fmean, worths[index].values() or [[0.0]])), default=0)
        going = [index for index in going if not is_hopeless(ran[index], worths[best], rungs.worth)]
    return ran


async def run_on(samples: Runs, workflow: str, evaluate: Evaluate, problems: Sequence[str], repeats: int = 1) -> None:
    """Run a workflow on those problems that it was not run on, all at once; adds to the samples.

    Args:
        samples (`Runs`): so far.
        workflow (`str`): its text.
        evaluate (`Evaluate`): runs it once.
        problems (`Sequence[str]`): ids.
        repeats (`int`): runs of each.

    Raises:
        InfraError: see `graded`.
    """
    fresh = [problem for problem in problems if problem not in samples and problem not in samples.refused]

    async def on(problem: str) -> None:
        try:
            runs = await gather_or_cancel(graded(evaluate, workflow, problem, repeat) for repeat in range(repeats))
        except CallRefusedError as error:
            samples.refused[problem] = str(error)
        else:
            found[problem] = list(runs)

    found: dict[str, list[Sample]] = {}
    await gather_or_cancel(on(problem) for problem in fresh)
    samples.update((problem, found[problem]) for problem in fresh if problem in found)


def _reward(sample: Sample) -> float:
    return sample.reward


def _worths(samples: Mapping[str, Sequence[Sample]], worth: Callable[[Sample], float]) -> dict[str, list[float]]:
    return {problem: [worth(sample) for sample in runs] for problem, runs in samples.items()}


def with_runs(node: Node, samples: Mapping[str, Sequence[Sample]], seconds: float = 0.0) -> Node:
    """Return a node with what its runs came to.

    One whose every run ended in an error has crashed, and one that has no score on half of its problems or more.

    Args:
        node (`Node`): before it was run.
        samples (`Mapping[str, Sequence[Sample]]`): its runs, by problem; `Runs` knows of those without a score too.
        seconds (`float`): that they took.
    """
    runs = [sample for group in samples.values() for sample in group]
    refused = dict(sorted(samples.refused.items())) if isinstance(samples, Runs) else {}
    errors = Counter([*(sample.error for sample in runs if sample.error), *refused.values()])
    crashed = all(sample.outcome != "ok" for sample in runs) or len(refused) >= max(1, len(samples))
    return replace(
        node,
        status="crashed" if crashed else "ok",
        error=errors.most_common(1)[0][0] if errors else None,
        validation=validation_of(samples) if samples else None,
        per_problem={key: tuple(sample.reward for sample in runs) for key, runs in samples.items()},
        unscored=refused,
        failed={key: runs[0].outcome for key, runs in samples.items() if all(run.outcome != "ok" for run in runs)},
        tokens=node.tokens + Spend(executor=sum(sample.tokens for sample in runs)),
        cost_usd=node.cost_usd + Spend(executor=sum(sample.cost_usd for sample in runs)),
        seconds=seconds,
    )


def is_hopeless(
    samples: Mapping[str, Sequence[Sample]],
    best: Mapping[str, Sequence[float]],
    worth: Callable[[Sample], float] = _reward,
) -> bool:
    """Whether a candidate loses to the best node on the problems that both were run on, beyond their spread.

    Args:
        samples (`Mapping[str, Sequence[Sample]]`): the candidate's runs, by problem.
        best (`Mapping[str, Sequence[float]]`): what the best node's are worth.
        worth (`Callable[[Sample], float]`): what a run is; its reward by default.
    """
    shared = [problem for problem in samples if problem in best]
    if len(shared) < 2:
        return False
    gains = [fmean(map(worth, samples[problem])) - fmean(best[problem]) for problem in shared]
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
        FatalExecutorError, CallRefusedError: at once.
    """
    for attempt in range(INFRA_RETRIES + 1):
        try:
            return await evaluate(workflow, problem, repeat)
        except (FatalExecutorError, CallRefusedError):
            raise
        except InfraError:
            if attempt == INFRA_RETRIES:
                raise
    raise AssertionError("unreachable")
