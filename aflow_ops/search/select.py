"""Which node to modify next. Every strategy is a pure function of the tree, the proposals under way and a generator.

| strategy | chooses |
|---|---|
| `aflow` | AFlow's soft mixed probability over the best nodes and the root (arXiv:2410.10762, sec. 3.2) |
| `uct` | from the root down by upper confidence bounds of backed-up values (Kocsis & Szepesvari, 2006) |
| `greedy` | the best node |
| `random` | any scored node |

Several proposals can be under way at once. Each counts as a visit without a gain (a virtual loss: Chaslot et al.,
"Parallel Monte-Carlo Tree Search", 2008), so that they spread.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from aflow_ops.search.tree import ScoredNode, Tree

Strategy = Literal["aflow", "uct", "greedy", "random"]

# AFlow: P = LAMBDA / n + (1 - LAMBDA) * softmax(ALPHA * (100 * score - 100 * best)).
ALPHA, LAMBDA = 0.2, 0.3
# UCT's weight of exploration, for scores in [0, 1].
EXPLORATION = 0.7


def mixed_probabilities(scores: Sequence[float], alpha: float = ALPHA, mixing: float = LAMBDA) -> list[float]:
    """AFlow's mixture of a uniform and a softmax distribution over scores.

    Args:
        scores (`Sequence[float]`): in [0, 1]; AFlow measures them in percent, so does the softmax.
        alpha (`float`): sharpness of the softmax.
        mixing (`float`): share of the uniform part.

    Raises:
        ValueError: there are no scores.

    Example:
        >>> [round(p, 3) for p in mixed_probabilities([0.50, 0.40, 0.25, 0.10])]
        [0.688, 0.158, 0.079, 0.075]
    """
    if not scores:
        raise ValueError("there is no score to choose by")
    best = max(scores)
    weights = [math.exp(alpha * 100 * (score - best)) for score in scores]
    total = sum(weights)
    return [mixing / len(scores) + (1 - mixing) * weight / total for weight in weights]


def select_parents(tree: Tree, strategy: Strategy, count: int, *, sample: int, rng: random.Random) -> list[int]:
    """Choose the nodes that the next proposals modify.

    Args:
        tree (`Tree`): with at least one scored node.
        strategy (`str`): how.
        count (`int`): proposals that are made at once.
        sample (`int`): size of the pool that `aflow` draws from, the root included.
        rng (`random.Random`): the only source of chance.

    Returns:
        `list[int]` of node ids, `count` of them, with repetitions.

    Raises:
        ValueError: no node has a score.
    """
    if not tree.scored:
        raise ValueError("no node of the search has a score: there is nothing to start from")
    pending: Counter[int] = Counter()
    for _ in range(count):
        pending[_STRATEGIES[strategy](tree, pending, sample, rng)] += 1
    return sorted(pending.elements())


def _aflow(tree: Tree, pending: Mapping[int, int], sample: int, rng: random.Random) -> int:
    root, *others = sorted(tree.scored, key=lambda item: (not item.is_root, -item.score, item.id))
    pool = [root, *sorted(others, key=lambda item: (-item.score, item.id))[: max(0, sample - 1)]]
    chances = mixed_probabilities([item.score for item in pool])
    weights = [chance / (1 + pending.get(item.id, 0)) for item, chance in zip(pool, chances, strict=True)]
    return rng.choices(pool, weights)[0].id


def _uct(tree: Tree, pending: Mapping[int, int], sample: int, rng: random.Random) -> int:
    """Walk down, from the root that promises most; at every node its own expansion competes with its children."""
    lost = tree.backed_up_counts(pending)

    def visits(item: ScoredNode) -> int:
        return tree.visits[item.id] + lost[item.id]

    def bound(item: ScoredNode, parent_visits: int) -> float:
        return _bound(tree.total_value[item.id] / visits(item), visits(item), parent_visits)

    tops = tree.tops
    together = sum(map(visits, tops))
    here = max(tops, key=lambda item: (bound(item, together), -item.id))
    while True:
        own = 1 + tree.tries[here.id] + pending.get(here.id, 0)
        best, highest = None, _bound(here.score, own, visits(here))
        for child in tree.scored_children(here.id):
            if (found := bound(child, visits(here))) > highest:
                best, highest = child, found
        if best is None:
            return here.id
        here = best


def _bound(value: float, visits: int, parent_visits: int) -> float:
    return value + EXPLORATION * math.sqrt(math.log(parent_visits + 1) / visits)


def _greedy(tree: Tree, pending: Mapping[int, int], sample: int, rng: random.Random) -> int:
    return min(tree.scored, key=lambda item: (-item.score, item.id)).id


def _random(tree: Tree, pending: Mapping[int, int], sample: int, rng: random.Random) -> int:
    return rng.choice(tree.scored).id


_STRATEGIES: dict[Strategy, Callable[[Tree, Mapping[int, int], int, random.Random], int]] = {
    "aflow": _aflow,
    "uct": _uct,
    "greedy": _greedy,
    "random": _random,
}
STRATEGIES: tuple[Strategy, ...] = tuple(_STRATEGIES)
