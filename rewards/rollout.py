"""One rollout from completion to reward: parse, run, grade, tier.

completion -> Workflow | WorkflowError -> Trace -> Grade -> reward in {1.0, 0.7, 0.4, 0.2, 0.0}, or None
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aflow_ops.errors import BudgetExceededError, FatalExecutorError, InfraError, WorkflowError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.operators import fitting_operators
from aflow_ops.runtime import WorkflowRuntime
from aflow_ops.sandbox import Sandbox
from aflow_ops.trace import OperatorCall, Trace
from data.problem import Problem
from rewards.grading import CachedGrader
from rewards.judge import Judge, JudgeConfig
from rewards.provenance import Exchange, Provenance
from rewards.tiers import TIER_REWARDS, Grade
from rewards.wa_grpo import NO_LOOP_GAIN, Ending, WorkflowFeatures, node_counts, revise_gain

# A record keeps this much of a completion.
MAX_COMPLETION_CHARS = 100_000


@dataclass(frozen=True)
class Rollout:
    """What became of one completion.

    Args:
        problem (`Problem`): the problem it was written for.
        completion (`str`): what the policy wrote.
        workflow (`Workflow`, *optional*): `None` when it does not parse.
        invalid (`str`, *optional*): why it does not parse, as `"stage: reason"`.
        trace (`Trace`, *optional*): the run; `None` when there was none.
        grade (`Grade`, *optional*): `None` when a failure of ours left nothing to grade.
        infra_error (`str`, *optional*): that failure.
        revise_gain (`float`): WA-GRPO's score of the Revise and Test calls; 0.5 until somebody measures it.
        replayed (`Mapping[str, Any]`, *optional*): where the completion is from and what it earned there (`reward`,
            `correct`, `outcome`); nothing was run here, and nothing is said of the policy.
    """

    problem: Problem
    completion: str
    workflow: Workflow | None = None
    invalid: str | None = None
    trace: Trace | None = None
    grade: Grade | None = None
    infra_error: str | None = None
    revise_gain: float = NO_LOOP_GAIN
    replayed: Mapping[str, Any] | None = None

    @property
    def reward(self) -> float | None:
        """The tier's reward in [0, 1]; `None` when the failure was ours."""
        return None if self.grade is None else self.grade.reward

    @property
    def ending(self) -> Ending:
        """Outcome of the run; `"invalid"` when there is no workflow, `"infra_error"` when the failure is ours, or when
        nothing was run for the reward is known."""
        if self.infra_error is not None or self.replayed is not None:
            return "infra_error"
        return "invalid" if self.trace is None else self.trace.outcome

    @property
    def calls(self) -> tuple[OperatorCall, ...]:
        """Operator calls that returned something."""
        return () if self.trace is None else tuple(call for call in self.trace.calls if call.error is None)

    def features(self) -> WorkflowFeatures:
        """What WA-GRPO looks at."""
        if self.workflow is None or self.trace is None:
            return WorkflowFeatures(ending=self.ending)
        return WorkflowFeatures(
            text=self.workflow.text,
            nodes=node_counts(self.workflow.source),
            ending=self.ending,
            tokens=self.trace.tokens,
            operators_used=len({call.operator for call in self.calls}),
            operators_available=len(fitting_operators(self.problem.domain, self.problem.entry_point is not None)),
            revise_gain=self.revise_gain,
        )

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form. It holds no gold answer and no hidden test."""
        workflow = self.workflow
        row: dict[str, Any] = {
            "id": self.problem.id,
            "source": self.problem.source,
            "domain": self.problem.domain,
            "question": self.problem.question,
            "completion": _writable(self.completion[:MAX_COMPLETION_CHARS]),
            "workflow": _writable(workflow.text) if workflow else None,
            "form": workflow.form if workflow else None,
            "repairs": list(workflow.repairs) if workflow else [],
            "invalid": _writable(self.invalid) if self.invalid else None,
            "trace": self.trace.to_dict() if self.trace else None,
            "outcome": "policy_error" if self.ending == "invalid" else self.ending,
            "infra_error": self.infra_error,
            "grade": self.grade.to_dict() if self.grade else None,
            "reward": self.reward,
            "correct": self.grade.correct if self.grade else None,
        }
        if self.replayed is not None:
            row |= {name: self.replayed[name] for name in ("reward", "correct", "outcome")}
            row["replay"] = {name: value for name, value in self.replayed.items() if name not in row}
        return row


class RolloutScorer:
    """Scores completions against one runtime and one sandbox.

    Args:
        runtime (`WorkflowRuntime`): runs the workflows.
        sandbox (`Sandbox`): where graders run code.
        judge (`JudgeConfig`, *optional*): asks the runtime's executor about disputable answers; nobody by default.
        seed (`str`): of the decoys that tell whose an answer is (`provenance/`).

    Attributes:
        spent (`BudgetExceededError`, *optional*): set once the budget refused a call. Rollouts that needed more have no
            reward; whoever runs them should stop when it suits.
    """

    def __init__(
        self, runtime: WorkflowRuntime, sandbox: Sandbox, judge: JudgeConfig | None = None, seed: str = ""
    ) -> None:
        self.runtime = runtime
        self.provenance = Provenance(runtime, sandbox, seed)
        self.judge = Judge(runtime.executor, judge) if judge is not None and judge.enabled else None
        self.grader = CachedGrader(sandbox, self.judge)
        self.spent: BudgetExceededError | None = None

    async def score(self, completion: str, problem: Problem, repeat: int = 0) -> Rollout:
        """Parse, run and grade one completion. No completion can make it raise.

        Args:
            completion (`str`): any text.
            problem (`Problem`): with its gold answer or hidden tests, which only the grader sees.
            repeat (`int`): which of several independent runs of the same text this is.

        Raises:
            FatalExecutorError: the executor refuses every call.
        """
        try:
            workflow = parse_workflow(
                completion, domain=problem.domain, has_entry_point=problem.entry_point is not None
            )
        except WorkflowError as error:
            return Rollout(problem, completion, invalid=str(error), grade=Grade(1, False, None, "no valid workflow"))
        return await self.run(workflow, problem, completion, repeat)

    async def run(
        self, workflow: Workflow, problem: Problem, completion: str | None = None, repeat: int = 0
    ) -> Rollout:
        """Run and grade a parsed workflow.

        Args:
            workflow (`Workflow`): from `parse_workflow`.
            problem (`Problem`): the problem to run it on.
            completion (`str`, *optional*): the text that it was parsed from; its own text by default.
            repeat (`int`): which of several independent runs this is.

        Raises:
            FatalExecutorError: the executor refuses every call.
        """
        rollout = Rollout(problem, workflow.text if completion is None else completion, workflow)
        try:
            return await self._run(rollout, workflow, repeat)
        except BudgetExceededError as error:
            self.spent = error
            return dataclasses.replace(rollout, infra_error=str(error))

    async def _run(self, rollout: Rollout, workflow: Workflow, repeat: int) -> Rollout:
        problem = rollout.problem
        executor = self.provenance.listen()
        trace = await self.runtime.run(workflow, problem.view, executor=executor, repeat=repeat)
        rollout = dataclasses.replace(rollout, trace=trace)
        if trace.outcome == "infra_error":
            return dataclasses.replace(rollout, infra_error=str(trace.error.message if trace.error else "unknown"))
        if trace.outcome != "ok":
            return dataclasses.replace(rollout, grade=Grade(1, False, None, f"the workflow ended in {trace.outcome}"))
        try:
            grade = await self.grader.grade(trace.answer, problem)
            grade = await self._capped(grade, rollout, executor.exchanges)
        except FatalExecutorError:
            raise
        except InfraError as error:
            return dataclasses.replace(rollout, infra_error=str(error))
        return dataclasses.replace(rollout, grade=grade)

    async def _capped(self, grade: Grade, rollout: Rollout, exchanges: Sequence[Exchange]) -> Grade:
        """The policy designs, it does not answer: without an operator's part in the answer it earns tier 2 at most."""
        if grade.reward <= TIER_REWARDS[2]:
            return grade
        if not rollout.calls:
            reason: str | None = "the workflow called no operator"
        else:
            assert rollout.workflow is not None and rollout.trace is not None
            answer = rollout.trace.answer or ""
            reason = await self.provenance.fault(rollout.workflow, rollout.problem, answer, grade, exchanges)
        if reason is None:
            return grade
        return grade.moved_to(2, f"{grade.detail}; capped: {reason}", correct=False, capped=True)

    async def with_revise_gain(self, rollout: Rollout) -> Rollout:
        """Measure what the calls that improve drafts (Revise, Test) came to: the draft before and the result after are
        graded.

        The draft is what the first such call was given, the result what the last one returned.
        """
        drafts = [call.improved for call in rollout.calls if call.improved is not None]
        if not drafts:
            return rollout
        before, after = drafts[0][0], drafts[-1][1]
        try:
            grades = [await self.grader.grade(text, rollout.problem) for text in (before, after)]
        except BudgetExceededError as error:
            self.spent = error
            return rollout
        except FatalExecutorError:
            raise
        except InfraError:
            return rollout  # unknown, so neither rewarded nor punished
        return dataclasses.replace(rollout, revise_gain=revise_gain(grades[0].reward, grades[1].reward))


def _writable(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
