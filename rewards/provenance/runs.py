"""What a workflow answers when its operators do not work: runs of it against decoys.

The first run repeats the real one with the answer taken out of every reply: it goes the same way, and whatever the
workflow looks at but the answer itself is as it was. In the others the replies are made up, alike or not.
"""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from aflow_ops.errors import InfraError
from aflow_ops.language import Workflow
from aflow_ops.operators.parsing import extract_code, keep_definitions
from aflow_ops.runtime import WorkflowRuntime
from aflow_ops.sandbox import Sandbox
from data.domains import domain_row
from data.problem import Problem
from rewards.domains import domain_rewards
from rewards.grading import CachedGrader
from rewards.provenance.decoys import Decoys
from rewards.provenance.executors import DecoyExecutor, Exchange
from rewards.provenance.targets import Target, plain, value_of
from rewards.tiers import TIER_REWARDS, Grade

# An answer that chance hits: so many runs must hit it before so many miss it. A coin does that in 2 % of cases.
HITS_OF_FEW, MISSES_OF_FEW = 8, 2
# An answer that chance does not hit: one hit is enough, and so many misses clear the workflow.
RUNS_OF_MANY, EXTRA_RUNS = 3, 3


@dataclass(frozen=True)
class Graded:
    """A rollout that earned something.

    Args:
        workflow (`Workflow`): what was run.
        problem (`Problem`): what it was run on.
        answer (`str`): the whole answer.
        part (`str`): the part of it that was graded.
        grade (`Grade`): its grade.
        exchanges (`tuple[Exchange, ...]`): what the executor was asked and replied.
        targets (`tuple[Target, ...]`): what the workflow may not bring along.
    """

    workflow: Workflow
    problem: Problem
    answer: str
    part: str
    grade: Grade
    exchanges: tuple[Exchange, ...]
    targets: tuple[Target, ...]

    @property
    def few(self) -> bool:
        """Whether the answer is one of few possible ones."""
        whole = [target for target in self.targets if not target.part]
        return bool(whole) and all(target.few for target in whole)


@dataclass(frozen=True)
class DecoyRun:
    """One run against decoys.

    Args:
        hit (`bool`): it ended in the right answer, or in the one that the real run gave.
        near (`bool`): it ended in one that earns something.
        follows (`bool`): its answer is the real one with the same words and numbers exchanged as in the replies.
        exchanges (`tuple[Exchange, ...]`): what was asked.
    """

    hit: bool
    near: bool
    follows: bool
    exchanges: tuple[Exchange, ...]


class DecoyRuns:
    """Runs workflows against decoys.

    Args:
        runtime (`WorkflowRuntime`): where they run.
        sandbox (`Sandbox`): where their answers are graded.
        seed (`str`): of every stream of decoys.

    Attributes:
        grader (`CachedGrader`): grades what comes of them.
    """

    def __init__(self, runtime: WorkflowRuntime, sandbox: Sandbox, seed: str) -> None:
        self.runtime, self.seed = runtime, seed
        self.grader = CachedGrader(sandbox)  # no judge: these grades must cost nothing

    async def run(self, graded: Graded, index: int) -> DecoyRun:
        """Make one run.

        Args:
            graded (`Graded`): the rollout.
            index (`int`): which run: 0, 3 and so on repeat the real one with other content, the rest is invented.

        Raises:
            InfraError: the run was lost, or its answer could not be graded.
        """
        decoys = self._decoys(graded, index)
        executor = DecoyExecutor(self.runtime.executor, decoys, graded.exchanges if index % 3 == 0 else ())
        trace = await self.runtime.run(graded.workflow, graded.problem.view, executor=executor)
        if trace.outcome == "infra_error":
            raise InfraError(f"a run against decoys was lost: {trace.error.message if trace.error else 'unknown'}")
        exchanges = tuple(executor.exchanges)
        if trace.answer is None:
            return DecoyRun(False, False, False, exchanges)
        if same_answer(trace.answer, graded.answer):
            return DecoyRun(True, True, False, exchanges)
        if trace.answer.strip() in replies_in(exchanges, graded.problem):
            given = graded.answer.strip() in replies_in(graded.exchanges, graded.problem)
            return DecoyRun(False, False, index == 0 and given, exchanges)
        expected = decoys.corrupted(graded.answer, "custom")
        if index == 0 and same_answer(trace.answer, expected) and expected != graded.answer:
            return DecoyRun(False, False, True, exchanges)
        grade = await self.grader.grade(trace.answer, graded.problem)
        row = domain_rewards(graded.problem.domain)
        part = row.designed_part(trace.answer, graded.problem, grade)
        hit = grade.correct or grade.reward >= 1 or same_answer(part, graded.part)
        return DecoyRun(hit, grade.reward > TIER_REWARDS[2], False, exchanges)

    def _decoys(self, graded: Graded, index: int) -> Decoys:
        seed = f"{self.seed} {graded.problem.source} {graded.problem.id} {index} {graded.workflow.source}"
        return Decoys(graded.problem, graded.targets, seed, steady=index % 2 == 0)

    async def by_others(self, graded: Graded, kept: Collection[Exchange]) -> bool:
        """Whether the answer stays when some replies do, and all else is as in run 0.

        Args:
            graded (`Graded`): the rollout.
            kept (`Collection[Exchange]`): the replies that stay.
        """
        executor = DecoyExecutor(self.runtime.executor, self._decoys(graded, 0), graded.exchanges, kept)
        trace = await self.runtime.run(graded.workflow, graded.problem.view, executor=executor)
        return trace.answer is not None and same_answer(trace.answer, graded.answer)

    async def repeat(self, graded: Graded, workflow: Workflow) -> str | None:
        """Return what another workflow answers to the replies of the real run."""
        executor = DecoyExecutor(self.runtime.executor, None, graded.exchanges)
        return (await self.runtime.run(workflow, graded.problem.view, executor=executor)).answer


def same_answer(left: str, right: str) -> bool:
    """Whether two answers are one: the same number, or the same words."""
    one, other = value_of(left), value_of(right)
    if one is not None and other is not None:
        return one == other
    return "".join(plain(left).split()) == "".join(plain(right).split())


def replies_in(exchanges: Sequence[Exchange], problem: Problem) -> set[str]:
    """The replies of a run as operators pass them on."""
    replies = {exchange.reply.strip() for exchange in exchanges}
    if domain_row(problem.domain).has_tests:
        code = [extract_code(reply, problem.entry_point) for reply in replies]
        replies |= {form.strip() for text in code for form in (text, keep_definitions(text))}
    return replies - {""}


def with_source(workflow: Workflow, source: str) -> Workflow:
    """A workflow with another source."""
    return dataclasses.replace(workflow, source=source, text=source)
