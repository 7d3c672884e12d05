"""Sampling without a search: a proposer that is shown the root and nothing else, for the tokens that a search took."""

import math
from dataclasses import dataclass, field, replace

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.search.choose import Final
from aflow_ops.search.evaluate import Evaluate, Rungs, run_candidate, with_runs
from aflow_ops.search.expand import Candidate, Check, Context, Proposer, as_completion, expand
from aflow_ops.search.node import Node, Objective
from aflow_ops.search.tree import Tree

# Samples are numbered from here: none is one of the search's own. They end after so many, however few tokens they took.
FIRST_SAMPLE, MAX_SAMPLES = 1_000_000, 500
# They end too when so many in a row were no new workflow: who writes one edit for ever is not paid for ever.
MAX_FRUITLESS = 20


@dataclass
class Independent:
    """The best of independent samples, chosen as the search chooses.

    Args:
        proposer (`Proposer`): whose proposals are taken.
        check (`Check`): the language's verdict.
        evaluate (`Evaluate`): runs a workflow on a problem.
        rungs (`Rungs`): how the validation slice is spent on each, as in the search.
        final (`Final`): chooses at the end, as in the search.
        at_once (`int`): proposals at a time.
        objective, price_per_usd: what is maximised, as in the search.

    Attributes:
        best (`str`): what was chosen, with its prompts.
        tokens (`int`): executor tokens so far.
        nodes (`list[Node]`): the root, and the samples that were run.
    """

    proposer: Proposer
    check: Check
    evaluate: Evaluate
    rungs: Rungs
    final: Final
    at_once: int = 1
    objective: Objective = "reward"
    price_per_usd: float = 0.0
    best: str = ""
    tokens: int = 0
    nodes: list[Node] = field(default_factory=list)
    _known: dict[str, int] = field(default_factory=dict)

    async def run(self, root: Node, tokens: float) -> None:
        """Propose and validate until so many executor tokens are spent.

        Args:
            root (`Node`): that every proposal modifies; it is the best one to begin with.
            tokens (`float`): when to end.

        Raises:
            InfraError: a failure of ours that did not pass.
        """
        self.nodes = [replace(root, id=0, parent=None)]
        number = last = 0
        while number < MAX_SAMPLES and number - last < MAX_FRUITLESS and self.tokens < tokens:
            count = self._fitting(tokens)
            known = len(self.nodes)
            await self._wave(root, range(number, number + count))
            number += count
            last = number if len(self.nodes) > known else last
        tree = self._tree()
        whole = tree.whole(len(self.rungs.problems))
        found = (await self.final.run(whole, tree.score)).node or self.nodes[0]
        self.best = as_completion(found.workflow, found.prompts)

    def _fitting(self, tokens: float) -> int:
        """How many samples to make at once: no more than spend what is left, if they take what the others took."""
        ran = len(self.nodes) - 1
        left = (tokens - self.tokens) * ran / self.tokens if self.tokens else self.at_once
        return max(1, min(self.at_once, math.ceil(left)))

    def _tree(self) -> Tree:
        return Tree(self.nodes, self.objective, self.price_per_usd)

    async def _wave(self, root: Node, numbers: range) -> None:
        tree = self._tree()
        best = tree.best(len(self.rungs.problems))
        score, worths = (0.0, {}) if best is None else (tree.score(best), self.rungs.worths(best))
        contexts = [Context(root, score, sample=FIRST_SAMPLE + number) for number in numbers]
        candidates = await gather_or_cancel(
            expand(self.proposer, context, self.check, self._known) for context in contexts
        )
        fresh: dict[int, Candidate] = {}
        for number, candidate in zip(numbers, candidates, strict=True):
            if candidate.key is not None and candidate.key not in self._known:
                self._known[candidate.key] = number
                fresh[number] = candidate
        nodes = [
            Node(len(self.nodes) + index, 0, number + 1, self.proposer.origin, **candidate.node_parts())
            for index, (number, candidate) in enumerate(fresh.items())
        ]
        ran = await gather_or_cancel(
            run_candidate(as_completion(node.workflow, node.prompts), self.evaluate, self.rungs, worths)
            for node in nodes
        )
        for node, samples in zip(nodes, ran, strict=True):
            self.nodes.append(with_runs(node, samples))
            self.tokens += sum(sample.tokens for runs in samples.values() for sample in runs)
