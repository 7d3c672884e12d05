"""Sampling without a search: a proposer that is shown the root and nothing else, for the tokens that a search took."""

from dataclasses import dataclass, field, replace

from aflow_ops.search.choose import Final
from aflow_ops.search.evaluate import Evaluate, Rungs, run_candidate, with_runs
from aflow_ops.search.expand import Check, Context, Proposer, as_completion, expand
from aflow_ops.search.node import Node
from aflow_ops.search.tree import Tree

# Samples are numbered from here: none is one of the search's own. They end after so many, however few tokens they took.
FIRST_SAMPLE, MAX_SAMPLES = 1_000_000, 500


@dataclass
class Independent:
    """The best of independent samples, chosen as the search chooses.

    Args:
        proposer (`Proposer`): whose proposals are taken.
        check (`Check`): the language's verdict.
        evaluate (`Evaluate`): runs a workflow on a problem.
        rungs (`Rungs`): how the validation slice is spent on each, as in the search.
        final (`Final`): chooses at the end, as in the search.

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
        self.nodes, whole = [replace(root, id=0, parent=None)], len(self.rungs.problems)
        nodes = self.nodes
        for number in range(MAX_SAMPLES):
            if self.tokens >= tokens:
                break
            best = Tree(nodes).best(whole)
            score = 0.0 if best is None else best.score()
            context = Context(root, score, sample=FIRST_SAMPLE + number)
            candidate = await expand(self.proposer, context, self.check, self._known)
            if candidate.workflow is None or candidate.key is None:
                continue
            self._known[candidate.key] = number
            text = as_completion(candidate.workflow.text, candidate.workflow.prompts)
            samples = await run_candidate(text, self.evaluate, self.rungs, {} if best is None else best.per_problem)
            node = Node(len(nodes), 0, number + 1, self.proposer.origin, **candidate.node_parts())
            nodes.append(with_runs(node, samples))
            self.tokens += sum(sample.tokens for runs in samples.values() for sample in runs)
        tree = Tree(nodes)
        found = (await self.final.run(tree.whole(whole), tree.score)).node or nodes[0]
        self.best = as_completion(found.workflow, found.prompts)
