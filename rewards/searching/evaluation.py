"""The search's door to the rewards: runs one workflow on one problem and grades the answer."""

from collections.abc import Callable, Mapping, Sequence

from aflow_ops.errors import CallRefusedError, InfraError
from aflow_ops.search.evaluate import Runs, run_on
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
            raise _failure(rollout)
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

        Returns:
            `dict` of the samples of every problem but those on which the executor refused a call: they have no score.

        Raises:
            CallRefusedError: there is none but such problems.
            InfraError: a failure of ours that did not pass.
        """
        samples = Runs()
        await run_on(samples, workflow, self, problems, repeats)
        if samples.refused and not samples:
            raise CallRefusedError(next(iter(samples.refused.values())))
        return samples


def _failure(rollout: Rollout) -> InfraError:
    """What kept a run from having a reward."""
    said = rollout.infra_error or "the run could not be graded"
    error = None if rollout.trace is None else rollout.trace.error
    return CallRefusedError(said) if error is not None and error.kind == CallRefusedError.__name__ else InfraError(said)


def shown_call(call: OperatorCall) -> str:
    """Return one operator call as a line: its name, and what it returned or raised."""
    if call.error is not None:
        return f"{call.operator} failed: {call.error[:MAX_OUTPUT_CHARS]}"
    output = call.output if isinstance(call.output, dict) else {"": call.output}
    said = "; ".join(f"{key} = {str(value)[:MAX_OUTPUT_CHARS]!r}" for key, value in output.items())
    return f"{call.operator}: {said}"
