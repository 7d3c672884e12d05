import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.search.node import Node, Spend, Validation
from aflow_ops.search.select import STRATEGIES, mixed_probabilities, select_parents
from aflow_ops.search.tree import Tree


def node(identity: int, parent: int | None, reward: float | None, usd: float = 0.0) -> Node:
    validation = None if reward is None else Validation(4, 1, reward, reward, 0.0, (reward, reward))
    return Node(
        identity, parent, identity, "grammar", f"change {identity}", f"x = {identity}",
        status="rejected" if reward is None else "ok", validation=validation, cost_usd=Spend(executor=usd),
    )  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    rewards = draw(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=20))
    nodes = [node(0, None, draw(st.floats(0, 1)))]
    for identity, reward in enumerate(rewards, start=1):
        scored = [item.id for item in nodes if item.status == "ok"]
        nodes.append(node(identity, draw(st.sampled_from(scored)), reward))
    return Tree(nodes)


def test_aflows_mixture_of_a_uniform_and_a_softmax_distribution() -> None:
    found = mixed_probabilities([0.50, 0.40, 0.25, 0.10])
    assert [round(p, 3) for p in found] == [0.688, 0.158, 0.079, 0.075]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_mixture_is_a_distribution_that_leaves_nobody_without_a_chance(scores: list[float]) -> None:
    found = mixed_probabilities(scores)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0.3 / len(scores) - 1e-12
    assert found[scores.index(max(scores))] == max(found)


@given(trees(), st.sampled_from(STRATEGIES), st.integers(1, 6), st.integers(1, 5), st.integers(0, 9))
def test_every_strategy_chooses_nodes_that_ran_and_the_same_ones_again(
    tree: Tree, strategy: str, count: int, sample: int, seed: int
) -> None:
    chosen = [
        select_parents(tree, strategy, count, sample=sample, rng=random.Random(seed))  # type: ignore[arg-type]
        for _ in range(2)
    ]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == count
    assert {item.id for item in tree.scored} >= set(chosen[0])


def test_the_root_is_in_aflows_pool_however_poor_it_is() -> None:
    tree = Tree([node(0, None, 0.0), *(node(i, 0, 0.9) for i in range(1, 9))])
    rng = random.Random(0)
    seen = Counter(select_parents(tree, "aflow", 1, sample=3, rng=rng)[0] for _ in range(500))
    assert set(seen) == {0, 1, 2}


def test_uct_leaves_a_branch_that_keeps_failing() -> None:
    nodes = [node(0, None, 0.5), node(1, 0, 0.6), node(2, 0, 0.55)]
    nodes += [node(identity, 1, 0.0) for identity in range(3, 15)]
    chosen = select_parents(Tree(nodes), "uct", 1, sample=4, rng=random.Random(0))
    assert chosen != [1]


def test_proposals_at_once_spread_by_virtual_losses() -> None:
    tree = Tree([node(0, None, 0.5), node(1, 0, 0.6), node(2, 0, 0.6), node(3, 0, 0.6)])
    chosen = select_parents(tree, "uct", 4, sample=4, rng=random.Random(0))
    assert len(set(chosen)) > 2


def test_without_a_scored_node_there_is_nothing_to_choose() -> None:
    with pytest.raises(ValueError, match="no node of the search has a score"):
        select_parents(Tree([node(0, None, None)]), "greedy", 1, sample=4, rng=random.Random(0))


@given(trees())
def test_visits_and_values_add_up_along_the_tree(tree: Tree) -> None:
    for item in tree.nodes:
        children = tree.children(item.id)
        own = item.validation.reward if item.validation else 0.0
        assert tree.visits[item.id] == 1 + sum(tree.visits[child.id] for child in children)
        assert tree.total_value[item.id] == pytest.approx(own + sum(tree.total_value[c.id] for c in children))


def test_the_pareto_front_has_what_nothing_beats_in_both() -> None:
    tree = Tree([node(0, None, 0.5, 4.0), node(1, 0, 0.4, 8.0), node(2, 0, 0.7, 8.0), node(3, 0, 0.5, 2.0)])
    assert tree.pareto() == [(0.5, 0.5, 3), (2.0, 0.7, 2)]
