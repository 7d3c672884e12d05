"""Sampling without a search: a proposer that is shown the root and nothing else, for the tokens that a search took."""

from dataclasses import dataclass, field

from aflow_ops.search.evaluate import Evaluate, Rungs, run_candidate
from aflow_ops.search.expand import Check, Context, Proposer, as_completion, expand
from aflow_ops.search.node import Node, validation_of

# Samples are numbered from here: none is one of the search's own. They end after so many, however few tokens they took.
FIRST_SAMPLE, MAX_SAMPLES = 1_000_000, 500


@dataclass
class Independent:
    """The best of independent samples.

    Args:
        proposer (`Proposer`): whose proposals are taken.
        check (`Check`): the language's verdict.
        evaluate (`Evaluate`): runs a workflow on a problem.
        rungs (`Rungs`): how the validation slice is spent on each, as in the search.

    Attributes:
        best (`str`): the best workflow so far, with its prompts.
        tokens (`int`): executor tokens so far.
    """

    proposer: Proposer
    check: Check
    evaluate: Evaluate
    rungs: Rungs
    best: str = ""
    tokens: int = 0
    _known: dict[str, int] = field(default_factory=dict)

    async def run(self, root: Node, tokens: float) -> None:
        """Propose and validate until so many executor tokens are spent.

        Args:
            root (`Node`): that every proposal modifies; it is the best one to begin with.
            tokens (`float`): when to end.

        Raises:
            InfraError: a failure of ours that did not pass.
        """
        self.best, rewards, best = as_completion(root.workflow, root.prompts), root.per_problem, -1.0
        if root.validation is not None:
            best = root.validation.reward
        for number in range(MAX_SAMPLES):
            if self.tokens >= tokens:
                return
            context = Context(root, max(0.0, best), sample=FIRST_SAMPLE + number)
            candidate = await expand(self.proposer, context, self.check, self._known)
            if candidate.workflow is None or candidate.key is None:
                continue
            self._known[candidate.key] = number
            text = as_completion(candidate.workflow.text, candidate.workflow.prompts)
            samples = await run_candidate(text, self.evaluate, self.rungs, rewards)
            self.tokens += sum(sample.tokens for runs in samples.values() for sample in runs)
            reward = validation_of(samples).reward
            if len(samples) == len(self.rungs.problems) and reward > best:
                self.best, best = text, reward
                rewards = {key: tuple(sample.reward for sample in runs) for key, runs in samples.items()}
