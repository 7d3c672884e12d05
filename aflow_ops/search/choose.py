"""What a search ends with: the best node, as AFlow takes it, or the winner of a final on fresh problems.

The best of many candidates owes something to luck, and what was learned from problems looks good on them. In a final, a
few nodes are run on problems that no choice was made by yet, and the best one gives way to its parent, and to the best
root, unless it gains more than a standard error, as a tree is pruned to the smallest one within a standard error of the
best (Breiman et al., Classification and Regression Trees, 1984). Nothing in a root was learned from the validation
problems, so the best root is told by these and the fresh ones together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from aflow_ops.search.evaluate import Evaluate, Rungs, race, standard_error, with_runs
from aflow_ops.search.expand import as_completion
from aflow_ops.search.node import Node, Spend
from aflow_ops.search.tree import Tree

# So many of the best nodes are run on fresh problems, and the best root.
FINALISTS = 3
Score = Callable[[Node], float]


def ranked(nodes: Sequence[Node], score: Score) -> list[Node]:
    """Return nodes, the best first; of equal ones the cheapest."""
    return sorted(nodes, key=lambda node: (-score(node), node.tokens_per_run, node.id))


def unlike(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes without those that earned on every problem what one before them did: these do the same."""
    found: dict[object, Node] = {}
    for node in nodes:
        found.setdefault(frozenset(node.per_problem.items()), node)
    return list(found.values())


def choose(nodes: Sequence[Node], score: Score, of_root: Score | None = None) -> Node | None:
    """Return the best node, or a simpler one that is no worse beyond chance.

    Args:
        nodes (`Sequence[Node]`): that were run on the same problems.
        score (`Callable[[Node], float]`): what is maximised.
        of_root (`Callable[[Node], float]`, *optional*): what the best root is told by [as `score`].
    """
    best = ranked(nodes, score)
    if not best:
        return None
    known = {node.id: node for node in best}
    root = next(iter(ranked([node for node in best if node.round == 0], of_root or score)), None)
    node = root if root is not None and best[0].round == 0 else best[0]
    while True:
        parent = None if node.parent is None else known.get(node.parent)
        simpler = [other for other in (parent, root) if other is not None and _does_for(other, node, score)]
        if not simpler:
            return node
        node = simpler[0]


def _does_for(other: Node, node: Node, score: Score) -> bool:
    """Whether another node is no worse beyond chance; of equal ones the dearer does not do."""
    if other.id == node.id:
        return False
    gain = score(node) - score(other)
    if gain == 0.0:
        return other.tokens_per_run <= node.tokens_per_run
    shared = [key for key in other.per_problem if key in node.per_problem]
    gains = [fmean(node.per_problem[key]) - fmean(other.per_problem[key]) for key in shared]
    return not gains or gain <= standard_error(gains)


@dataclass(frozen=True)
class Choice:
    """What a search ends with.

    Args:
        node (`Node`, *optional*): the chosen one; `None` where there is none to choose.
        finalists (`tuple[Node, ...]`): with what they came to on the fresh problems alone; none without such problems.
    """

    node: Node | None
    finalists: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Final:
    """Chooses among the best nodes by problems that they were not chosen by.

    Args:
        evaluate (`Evaluate`): runs a workflow on a problem.
        rungs (`Rungs`): how these problems are spent.
    """

    evaluate: Evaluate
    rungs: Rungs

    async def run(self, nodes: Sequence[Node], score: Score) -> Choice:
        """Run the finalists and choose; without fresh problems, take the best node, the first one of equals.

        Args:
            nodes (`Sequence[Node]`): that were run on the whole validation slice.
            score (`Callable[[Node], float]`): what is maximised.

        Raises:
            InfraError: a failure of ours that did not pass.
        """
        if not self.rungs.problems:
            return Choice(min(nodes, key=lambda node: (-score(node), node.id), default=None))
        best = unlike(ranked(nodes, score))
        roots = [node for node in best if node.round == 0]
        finalists = list({node.id: node for node in [*best[:FINALISTS], *roots[:1]]}.values())
        before = {node.id: score(node) for node in finalists}
        ran = await race([as_completion(node.workflow, node.prompts) for node in finalists], self.evaluate, self.rungs)
        again = [
            with_runs(replace(node, tokens=Spend(), cost_usd=Spend()), samples)
            for node, samples in zip(finalists, ran, strict=True)
        ]
        validated, fresh = max((len(node.per_problem) for node in finalists), default=0), len(self.rungs.problems)

        def of_root(node: Node) -> float:
            return (validated * before[node.id] + fresh * score(node)) / (validated + fresh)

        last = choose(Tree(again).whole(fresh), score, of_root)
        # where none ran to its end on the fresh problems, these say nothing
        chosen = next((node for node in finalists if last and node.id == last.id), best[0] if best else None)
        return Choice(chosen, tuple(again))
