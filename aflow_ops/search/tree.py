"""What the list of nodes says as a tree: scores, visits, backed-up values, and what was tried already.

A node that was given up early was run on the first problems only, and these may be easier than the rest. Its mean there
says nothing beside the mean of a node that was run on all of them. So it is scored by what it gains or loses on the
problems that both it and the best whole node were run on, added to that one's score (a difference estimator: Cochran,
Sampling Techniques, 1977, ch. 7).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from aflow_ops.search.canonical import workflow_key
from aflow_ops.search.node import Node, Objective


@dataclass(frozen=True)
class ScoredNode:
    """A node that can be chosen.

    Args:
        id (`int`): of the node.
        score (`float`): by the search's objective.
        is_root (`bool`): whether it has no parent.
    """

    id: int
    score: float
    is_root: bool


class Tree:
    """An immutable view of the nodes so far.

    Args:
        nodes (`Sequence[Node]`): in order of their ids.
        objective (`str`): what scores are.
        price_per_usd (`float`): see `Node.score`.
    """

    def __init__(self, nodes: Sequence[Node], objective: Objective = "reward", price_per_usd: float = 0.0) -> None:
        self.nodes = tuple(nodes)
        self._by_id = {node.id: node for node in self.nodes}
        self.objective: Objective = objective
        self.price_per_usd = price_per_usd

    def score(self, node: Node) -> float:
        """Return the node's score by the search's objective, comparable with every other's.

        Raises:
            ValueError: the node has no score.
        """
        return self._estimated(node).score(self.objective, self.price_per_usd)

    def reward(self, node: Node) -> float:
        """Return the node's mean reward, comparable with every other's.

        Raises:
            ValueError: the node has no score.
        """
        return self._estimated(node).score()

    @cached_property
    def _anchor(self) -> Node | None:
        """The best of the nodes that have a score on most problems."""
        ran = [(node.validation.n, node) for node in self.nodes if node.status == "ok" and node.validation is not None]
        most = max((count for count, _ in ran), default=0)
        ranked = [(-node.score(self.objective, self.price_per_usd), node.id, node) for n, node in ran if n == most]
        return min(ranked, default=(0.0, 0, None))[2]

    def _estimated(self, node: Node) -> Node:
        """Return the node with the reward and the share right that it would have on all problems."""
        anchor, validation = self._anchor, node.validation
        if anchor is None or anchor.validation is None or validation is None or validation.n >= anchor.validation.n:
            return node
        shared = [key for key in node.per_problem if key in anchor.per_problem]
        if not shared:
            return node
        pairs = [(node.per_problem[key], anchor.per_problem[key]) for key in shared]
        reward = fmean(fmean(mine) - fmean(best) for mine, best in pairs)
        correct = fmean(_share_right(mine) - _share_right(best) for mine, best in pairs)
        estimated = replace(
            validation,
            reward=_in_range(anchor.validation.reward + reward),
            correct=_in_range(anchor.validation.correct + correct),
        )
        return replace(node, validation=estimated)

    @cached_property
    def scored(self) -> tuple[ScoredNode, ...]:
        """The nodes that ran, in order."""
        return tuple(
            ScoredNode(node.id, self.score(node), node.parent is None) for node in self.nodes if node.status == "ok"
        )

    @property
    def tops(self) -> list[ScoredNode]:
        """The nodes that ran and have no parent that did: roots, and what was made of a root that crashed."""
        return [item for item in self.scored if self._by_id[item.id].parent not in self._scored_by_id]

    @cached_property
    def _scored_by_id(self) -> dict[int, ScoredNode]:
        return {item.id: item for item in self.scored}

    @cached_property
    def _children(self) -> dict[int, list[Node]]:
        children: dict[int, list[Node]] = {}
        for node in self.nodes:
            if node.parent is not None:
                children.setdefault(node.parent, []).append(node)
        return children

    def children(self, node_id: int) -> list[Node]:
        """Return what the node was modified into, rejected and crashed proposals too, in order."""
        return self._children.get(node_id, [])

    def scored_children(self, node_id: int) -> list[ScoredNode]:
        """Return the children that ran."""
        return [self._scored_by_id[node.id] for node in self.children(node_id) if node.id in self._scored_by_id]

    @cached_property
    def tries(self) -> Counter[int]:
        """How often each node was modified, whatever came of it."""
        return Counter(node.parent for node in self.nodes if node.parent is not None)

    @cached_property
    def visits(self) -> dict[int, int]:
        """Evaluations and failed proposals in each node's subtree, itself included: at least 1."""
        return {key: int(value) for key, value in self._summed({node.id: 1.0 for node in self.nodes}).items()}

    @cached_property
    def total_value(self) -> dict[int, float]:
        """Sum of the scores in each node's subtree; a proposal that did not run adds a visit without a gain."""
        return self._summed({item.id: item.score for item in self.scored})

    def _summed(self, own: Mapping[int, float]) -> dict[int, float]:
        sums = {node.id: own.get(node.id, 0.0) for node in self.nodes}
        for node in reversed(self.nodes):  # children come after their parents
            if node.parent is not None:
                sums[node.parent] += sums[node.id]
        return sums

    def backed_up_counts(self, pending: Mapping[int, int]) -> Counter[int]:
        """Return proposals under way in each node's subtree."""
        counts: Counter[int] = Counter()
        for node_id, count in pending.items():
            here: int | None = node_id
            while here is not None:
                counts[here] += count
                here = self._by_id[here].parent
        return counts

    @cached_property
    def keys(self) -> dict[str, int]:
        """The first node of every workflow that was run, by its normalised form."""
        keys: dict[str, int] = {}
        for node in self.nodes:
            if node.status != "rejected":
                keys.setdefault(workflow_key(node.workflow, node.prompts), node.id)
        return keys

    def best(self, problems: int) -> Node | None:
        """Return the best node among those that were run on all problems; the first one of equals.

        Args:
            problems (`int`): size of the validation slice.
        """
        return min(self.whole(problems), key=lambda node: (-self.score(node), node.id), default=None)

    def whole(self, problems: int) -> list[Node]:
        """Return the nodes that were run on a slice of so many problems."""
        return [self._by_id[item.id] for item in self.scored if _met(self._by_id[item.id]) >= problems]

    @cached_property
    def most_problems(self) -> int:
        """How many problems a node was run on at most: on fewer ran what was given up early."""
        return max((_met(node) for node in self.nodes if node.status == "ok"), default=0)

    def pareto(self, cost: Callable[[Node], float] | None = None) -> list[tuple[float, float, int]]:
        """Return the nodes that no other beats in both cost a problem and mean reward, the cheapest first.

        Only nodes that were run on all problems: what another one costs and earns on these is not known.

        Args:
            cost (`Callable[[Node], float]`): of one run; dollars by default.

        Returns:
            `list` of `(cost, reward, id)`.
        """
        cost = cost or (lambda node: node.usd_per_problem)
        points = [(cost(node), self.reward(node), node.id) for node in self.whole(self.most_problems)]
        front: list[tuple[float, float, int]] = []
        for point in sorted(points, key=lambda point: (point[0], -point[1], point[2])):
            if not front or point[1] > front[-1][1]:
                front.append(point)
        return front


def _met(node: Node) -> int:
    """Problems that a node was run on, those without a score too."""
    return len(node.unscored) + (0 if node.validation is None else node.validation.n)


def _share_right(rewards: Sequence[float]) -> float:
    return fmean(reward >= 1.0 for reward in rewards)


def _in_range(share: float) -> float:
    return min(1.0, max(0.0, share))
