import random
from collections import Counter
from statistics import fmean

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


def ran(identity: int, parent: int | None, rewards: list[float], usd: float = 0.0, refused: int = 0) -> Node:
    """A node that was run on the first problems only, as many as there are rewards."""
    mean, correct = fmean(rewards), fmean(reward == 1 for reward in rewards)
    return Node(
        identity, parent, int(parent is not None), "grammar", f"change {identity}", f"x = {identity}",
        validation=Validation(len(rewards), 1, mean, correct, 0.0, (0.0, 1.0)), cost_usd=Spend(executor=usd),
        per_problem={f"p{index}": (reward,) for index, reward in enumerate(rewards)},
        unscored={f"p{len(rewards) + index}": "a filter" for index in range(refused)},
    )  # fmt: skip


def test_a_node_that_was_given_up_on_easy_problems_is_no_better_than_the_one_it_lost_to() -> None:
    root = ran(0, None, [1.0, 1.0, 1.0, 1.0, *[0.0] * 12])  # 0.25 on all, 1 on the first four
    poor = ran(1, 0, [0.2, 1.0, 0.2, 1.0])  # 0.6 on these four
    assert poor.score() > root.score()
    for objective, lost in (("reward", 0.4), ("correct", 0.5)):
        tree = Tree([root, poor], objective)  # type: ignore[arg-type]
        assert tree.score(poor) == max(0.0, 0.25 - lost)
        assert select_parents(tree, "greedy", 1, sample=4, rng=random.Random(0)) == [0]
    better = ran(2, 0, [1.0] * 16)
    assert Tree([root, poor, better]).score(poor) == pytest.approx(0.6)
    assert Tree([root, poor, better]).reward(root) == 0.25


def test_the_pareto_front_has_no_node_that_was_given_up_early() -> None:
    tree = Tree([ran(0, None, [0.5] * 8, 0.8), ran(1, 0, [1.0, 0.2], 0.002)])
    assert tree.pareto() == [(pytest.approx(0.1), 0.5, 0)]


def test_a_node_without_a_score_on_a_problem_can_still_be_the_best() -> None:
    root, other = ran(0, None, [0.5, 0.5, 0.5, 0.5]), ran(1, 0, [0.7, 0.7, 0.7], refused=1)
    tree = Tree([root, other])
    best = tree.best(4)
    assert best is not None and best.id == 1 and tree.score(other) == pytest.approx(0.7)
    assert [item.id for item in tree.whole(4)] == [0, 1]


def test_uct_starts_from_every_root() -> None:
    nodes = [node(0, None, 0.1), node(1, None, 0.9), node(2, 1, 0.95)]
    assert select_parents(Tree(nodes), "uct", 1, sample=4, rng=random.Random(0)) == [2]
    nodes += [node(identity, 1, 0.0) for identity in range(3, 20)]
    assert 0 in select_parents(Tree(nodes), "uct", 4, sample=4, rng=random.Random(0))
