"""The search's door to the rewards: runs one workflow on one problem and grades the answer."""

from collections.abc import Callable, Mapping, Sequence

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import InfraError
from aflow_ops.search.evaluate import graded
from aflow_ops.search.node import Sample
from aflow_ops.trace import OperatorCall, Trace
from data.problem import Problem
from rewards.rollout import Rollout, RolloutScorer

# A proposer is shown so much of what an operator returned.
MAX_OUTPUT_CHARS = 300


class Evaluation:
    """Runs workflows for the search. Gold answers and hidden tests stay with the grader.

    Args:
        scorer (`RolloutScorer`): runs and grades.
        problems (`Mapping[str, Problem]`): every problem that may be asked for, by the id that the search uses.
        price (`Callable[[int, int], float]`): dollars for prompt and completion tokens. Costs are by price whether the
            reply was paid for or came from the cache, so equal searches have equal costs.
    """

    def __init__(
        self, scorer: RolloutScorer, problems: Mapping[str, Problem], price: Callable[[int, int], float]
    ) -> None:
        self.scorer, self.problems, self.price = scorer, problems, price

    async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
        """Run once; see `aflow_ops.search.evaluate.Evaluate`."""
        rollout = await self.scorer.score(workflow, self.problems[problem], repeat=repeat)
        if rollout.reward is None:
            if self.scorer.spent is not None:
                raise self.scorer.spent
            raise InfraError(rollout.infra_error or "the run could not be graded")
        return self._sample(rollout, rollout.reward)

    def _sample(self, rollout: Rollout, reward: float) -> Sample:
        trace = rollout.trace or Trace(None, "policy_error")
        error = rollout.invalid
        if error is None and trace.error is not None:
            error = f"{trace.error.kind}: {trace.error.message}"
        return Sample(
            reward=reward,
            correct=rollout.grade is not None and rollout.grade.correct,
            outcome=trace.outcome,
            error=error,
            answer=trace.answer,
            calls=tuple(shown_call(call) for call in trace.calls),
            tokens=trace.tokens,
            cost_usd=sum(self.price(call.prompt_tokens, call.completion_tokens) for call in trace.calls),
        )

    async def on(self, workflow: str, problems: Sequence[str], repeats: int = 1) -> dict[str, list[Sample]]:
        """Run a workflow on problems, all at once.

        Args:
            workflow (`str`): its text, with its prompts.
            problems (`Sequence[str]`): ids.
            repeats (`int`): runs of each.

        Raises:
            InfraError: a failure of ours that did not pass.
        """
        runs = [(problem, repeat) for problem in problems for repeat in range(repeats)]
        done = await gather_or_cancel(graded(self, workflow, problem, repeat) for problem, repeat in runs)
        samples: dict[str, list[Sample]] = {}
        for (problem, _), sample in zip(runs, done, strict=True):
            samples.setdefault(problem, []).append(sample)
        return samples


def shown_call(call: OperatorCall) -> str:
    """Return one operator call as a line: its name, and what it returned or raised."""
    if call.error is not None:
        return f"{call.operator} failed: {call.error[:MAX_OUTPUT_CHARS]}"
    output = call.output if isinstance(call.output, dict) else {"": call.output}
    said = "; ".join(f"{key} = {str(value)[:MAX_OUTPUT_CHARS]!r}" for key, value in output.items())
    return f"{call.operator}: {said}"
