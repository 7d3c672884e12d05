"""Running and grading samples: on one event loop, or on several in processes of their own.

One event loop is the bound past some two hundred workflows at once. Processes are forked before there is a loop or a
thread; each has its own executor and interpreters, notes in the journal what it pays, and sends what it graded and paid
to the one that started it.
"""

import asyncio
import dataclasses
import multiprocessing
import os
import signal
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import InfraError, UsageError
from aflow_ops.executor import ExecutorConfig, ExecutorUsage
from data.problem import Problem
from recipes.run.command import end_with_parent
from rewards.benchmark_metrics import benchmark_metrics
from rewards.rollout import RolloutScorer
from scripts.evaluating.journal import Journal, Row

# How long a process may take to close what it has open.
ENDING_SECONDS = 10.0
# Workflows at once that keep one event loop busy.
WORKFLOWS_A_LOOP = 256

Graded = Callable[[int, Row], object]
OpenScorer = Callable[[ExecutorConfig, Path | None], AbstractAsyncContextManager[RolloutScorer]]


@dataclass(frozen=True)
class Sample:
    """One run to be graded.

    Args:
        index (`int`): its number.
        completion (`str`): with the workflow.
        problem (`Problem`): what it runs on.
        repeat (`int`): which of several runs on that problem it is.
    """

    index: int
    completion: str
    problem: Problem
    repeat: int


async def grade(samples: Iterable[Sample], scorer: RolloutScorer, graded: Graded) -> None:
    """Run and grade samples.

    Args:
        samples (`Iterable[Sample]`): all at once, as far as the executor's limits go.
        scorer (`RolloutScorer`): what they are graded by.
        graded (`Callable[[int, Row], object]`): is given each row with its number.

    Raises:
        BudgetExceededError: some rows have no verdict for the budget is spent.
    """

    async def one(sample: Sample) -> None:
        rollout = await scorer.score(sample.completion, sample.problem, repeat=sample.repeat)
        graded(sample.index, {**rollout.to_row(), "metrics": benchmark_metrics(rollout)})

    await gather_or_cancel(map(one, samples))
    if scorer.spent is not None:
        raise scorer.spent


def processes_for(at_once: int) -> int:
    """Return how many event loops so many workflows at once keep busy: at least one, at most one a core."""
    return max(1, min(at_once // WORKFLOWS_A_LOOP, len(os.sched_getaffinity(0))))


def parts_of(samples: Sequence[Sample], processes: int) -> list[Sequence[Sample]]:
    """Share samples out to processes, to each a run of about as many.

    Those of one problem stay together: what equal calls and equal answers cost is paid once, as in one process.

    Args:
        samples (`Sequence[Sample]`): in order, those of a problem next to each other.
        processes (`int`): how many there may be.

    Returns:
        `list[Sequence[Sample]]`: from 1 to `processes` parts, none empty unless there is nothing.
    """
    starts = [at for at, sample in enumerate(samples) if at == 0 or sample.problem != samples[at - 1].problem]
    nearest = {bisect_left(starts, len(samples) * number // processes) for number in range(processes)}
    bounds = [starts[index] for index in sorted(nearest) if index < len(starts)]
    return [samples[low:high] for low, high in pairwise([*bounds, len(samples)])] or [samples]


def grade_in_processes(
    samples: Sequence[Sample],
    config: ExecutorConfig,
    processes: int,
    open_scorer: OpenScorer,
    journal: Journal,
    graded: Graded,
    shown: AbstractContextManager[object],
) -> Mapping[str, int] | None:
    """Run and grade samples in several processes.

    Args:
        samples (`Sequence[Sample]`): each process takes a run of them; see `parts_of`.
        config (`ExecutorConfig`): calls at once are shared out, rate limits shared over a ledger.
        processes (`int`): at most so many.
        open_scorer (`Callable`): from a process's config and ledger to its scorer.
        journal (`Journal`): is told of payments.
        graded (`Callable[[int, Row], object]`): as for `grade`.
        shown (`AbstractContextManager`): entered once they are forked: a bar has a thread.

    Returns:
        `Mapping[str, int]`, *optional*: statistics of the executor's cache.

    Raises:
        InfraError: a process was lost, or what ended one: a refused key, say.
        UsageError: likewise, such as a kernel that cannot confine code.
    """
    parts = parts_of(samples, processes)
    share = dataclasses.replace(config, executor_max_concurrency=max(1, config.executor_max_concurrency // len(parts)))
    with tempfile.TemporaryDirectory() as folder:
        opened = partial(open_scorer, share, Path(folder) / "ledger")
        started = [_start(part, opened, journal) for part in parts]
        try:
            with shown:
                caches = _received({receiver: process for process, receiver in started}, journal, graded)
        finally:
            for process, _ in started:
                process.terminate()
            for process, receiver in started:
                process.join(ENDING_SECONDS)
                process.kill()
                receiver.close()
    return {name: max(each[name] for each in caches) for name in caches[0]} if caches else None


def _start(
    samples: Sequence[Sample], opened: Callable[[], AbstractAsyncContextManager[RolloutScorer]], journal: Journal
) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("fork")  # what is imported and read is shared
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(samples, opened, journal, sender, os.getpid()), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def _run(
    samples: Sequence[Sample],
    opened: Callable[[], AbstractAsyncContextManager[RolloutScorer]],
    journal: Journal,
    sender: Connection,
    parent: int,
) -> None:
    """What a process does; a failure of any kind is the other side's to raise."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it ends at once, and what it has open with it
    end_with_parent()
    if os.getppid() != parent:  # which was gone before
        return

    def paid(key: str | None, usage: ExecutorUsage) -> None:
        journal.add_payment(key, usage)  # here, before the reply is in the cache: a kill must not hide a payment
        sender.send(("paid", key, usage))

    async def work() -> Mapping[str, int] | None:
        async with opened() as scorer:
            executor = scorer.runtime.executor
            executor.on_paid = paid
            await grade(samples, scorer, lambda index, row: sender.send(("row", index, row)))
            return executor.cache_statistics

    try:
        sender.send(("done", asyncio.run(work())))
    except (InfraError, UsageError) as error:
        sender.send(("failed", error))
    except (KeyboardInterrupt, BrokenPipeError):
        return


def _received(waiting: dict[Connection, BaseProcess], journal: Journal, graded: Graded) -> list[Mapping[str, int]]:
    """Take what comes until all are done; returns the statistics of their caches."""
    caches: list[Mapping[str, int]] = []
    while waiting:
        for receiver in wait([*waiting]):
            assert isinstance(receiver, Connection)
            try:
                message = receiver.recv()
            except EOFError:
                process = waiting[receiver]
                process.join()
                raise InfraError(
                    f"a process of the evaluation was lost (exit code {process.exitcode}); the same command goes on"
                ) from None
            match message:
                case ("row", int(index), row):
                    graded(index, row)
                case ("paid", key, ExecutorUsage() as usage):
                    journal.count_payment(key, usage)
                case ("failed", Exception() as error):
                    raise error
                case ("done", cache):
                    del waiting[receiver]
                    caches += [] if cache is None else [cache]
    return caches
