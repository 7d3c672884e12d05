"""What a search starts from and what it ends with."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from aflow_ops.language import parse_workflow
from aflow_ops.search.choose import Final, choose, unlike
from aflow_ops.search.evaluate import Rungs, race, with_runs
from aflow_ops.search.expand import Context
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.kinds import common_operators, operator_workflows
from aflow_ops.search.node import Node, Sample
from aflow_ops.search.plan import call, fallback, print_plan, read_plan
from data.problem import Domain

KEYS = tuple(f"p{index}" for index in range(24))
FRESH = tuple(f"fresh{index}" for index in range(24))


def node(identity: int, parent: int | None, rewards: list[float], tokens: int = 10) -> Node:
    samples = {
        key: [Sample(reward, reward == 1, "ok", tokens=tokens)] for key, reward in zip(KEYS, rewards, strict=True)
    }
    return with_runs(Node(identity, parent, identity, "grammar", "", f"workflow {identity}"), samples)


def share(right: int) -> list[float]:
    return [1.0] * right + [0.0] * (len(KEYS) - right)


def chosen(*nodes: Node) -> int:
    found = choose(nodes, Node.score)
    assert found is not None
    return found.id


def test_a_lucky_node_gives_way_to_its_parent_and_to_the_best_root() -> None:
    root, other_root = node(0, None, share(12)), node(1, None, share(4))
    assert chosen(root, other_root, node(2, 0, share(13))) == 0
    assert chosen(root, other_root, node(2, 1, share(13))) == 0
    assert chosen(root, other_root, node(2, 0, share(18))) == 2
    assert chosen(root, other_root, node(2, 0, share(18)), node(3, 2, share(19))) == 2
    assert chosen(root, other_root, node(2, 0, share(18)), node(3, 2, share(24))) == 3


async def test_without_fresh_problems_the_best_on_validation_is_taken() -> None:
    nodes = [node(0, None, share(12)), node(1, 0, share(13)), node(2, 0, share(13), tokens=5)]
    choice = await Final(Known(), Rungs(())).run(nodes, Node.score)
    assert choice.node is nodes[1] and choice.finalists == ()
    assert (await Final(Known(), Rungs(())).run([], Node.score)).node is None
    assert (await Final(Known(), Rungs(FRESH)).run([], Node.score)).node is None


def test_of_equal_nodes_the_cheapest_is_chosen_then_the_simplest() -> None:
    assert chosen(node(0, None, share(12), 10), node(1, 0, share(12), 5)) == 1
    assert chosen(node(0, None, share(12), 10), node(1, 0, share(12), 10)) == 0
    assert choose([], Node.score) is None


class Known:
    """Runs nothing: a workflow solves a problem as often as is said here, the first problems first."""

    def __init__(self, **right: int) -> None:
        self.right, self.runs = right, 0

    async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
        self.runs += 1
        await asyncio.sleep(0)
        reward = float(int(problem.strip("preshf")) < self.right[workflow.split()[-1]])
        return Sample(reward, reward == 1, "ok", tokens=10)


async def test_roots_are_raced_and_the_best_is_run_on_the_whole_slice() -> None:
    known = Known(poor=0, good=20, better=22)
    poor, good, better = await race(["poor", "good", "better"], known, Rungs(KEYS))
    assert len(poor) == 4 and len(good) == len(better) == len(KEYS)
    assert known.runs == 4 + 2 * len(KEYS)
    (alone,) = await race(["poor"], known, Rungs(KEYS))
    assert len(alone) == len(KEYS)
    assert await race([], known, Rungs(KEYS)) == []


async def test_finalists_are_chosen_by_problems_that_no_choice_was_made_by() -> None:
    nodes = [node(0, None, share(12)), node(1, 0, share(22)), node(2, 0, share(21)), node(3, 0, share(2))]
    final = Final(Known(**{"0": 12, "1": 6, "2": 22, "3": 24}), Rungs(FRESH))
    choice = await final.run(nodes, Node.score)
    assert choice.node is nodes[2]
    assert {each.id for each in choice.finalists} == {0, 1, 2}
    assert all(set(each.per_problem) <= set(FRESH) for each in choice.finalists)


async def test_roots_are_told_apart_by_all_their_problems_and_what_was_made_of_them_by_the_fresh_ones() -> None:
    roots = [replace(node(identity, None, share(right)), round=0) for identity, right in enumerate((20, 12))]
    final = Final(Known(**{"0": 14, "1": 16, "2": 20}), Rungs(FRESH, halving=False))
    assert (await final.run(roots, Node.score)).node is roots[0]
    made = node(2, 1, share(22))
    assert (await final.run([*roots, made], Node.score)).node is made


async def test_what_does_the_same_as_a_better_one_takes_no_place_among_the_finalists() -> None:
    twins = [node(identity, None, share(20), tokens=10 + identity) for identity in range(3)]
    other, last = node(3, None, share(12)), node(4, None, share(10))
    final = Final(Known(**{str(identity): 12 for identity in range(5)}), Rungs(FRESH))
    choice = await final.run([*twins, other, last], Node.score)
    assert {each.id for each in choice.finalists} == {0, 3, 4}
    assert [each.id for each in unlike([*twins, other])] == [0, 3]


async def test_where_no_finalist_runs_to_its_end_the_best_on_validation_is_taken() -> None:
    class Late(Known):
        async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
            return Sample(0.0, False, "timeout", error="TimeoutError: over 180 s")

    nodes = [node(0, None, share(12)), node(1, 0, share(22))]
    choice = await Final(Late(), Rungs(FRESH)).run(nodes, Node.score)
    assert choice.node is nodes[1] and {each.status for each in choice.finalists} == {"crashed"}


@pytest.mark.parametrize(
    ("kinds", "least"),
    [
        ([("math", False)], {"Custom", "Programmer", "AnswerGenerate", "Revise", "ScEnsemble", "Review"}),
        ([("code", True)], {"Custom", "CustomCodeGenerate", "Test", "Revise"}),
        ([("math", False), ("qa", False), ("code", True)], {"Custom", "Programmer", "AnswerGenerate", "Revise"}),
    ],
)
def test_each_operator_has_a_workflow_to_start_from(kinds: list[tuple[Domain, bool]], least: set[str]) -> None:
    found = operator_workflows(kinds)
    assert least <= set(found) <= set(common_operators(kinds))
    for name, text in found.items():
        assert read_plan(text) is not None
        for domain, has_entry_point in kinds:
            workflow = parse_workflow(text, domain=domain, has_entry_point=has_entry_point)
            assert name in workflow.operators


@pytest.mark.parametrize(("first", "second", "answer"), [(True, False, "A"), (False, True, "B"), (False, False, "A")])
async def test_a_fallback_is_taken_only_where_the_draft_fails_and_it_passes(
    first: bool, second: bool, answer: str
) -> None:
    async def custom(input: str, **_: Any) -> dict[str, Any]:
        return {"response": "A"}

    async def answer_generate(input: str, **_: Any) -> dict[str, Any]:
        return {"answer": "B"}

    async def review(problem: str, solution: str) -> dict[str, Any]:
        return {"review_result": first if solution == "A" else second, "feedback": ""}

    plan = fallback("Review", call("Custom"), call("AnswerGenerate"))
    space: dict[str, Any] = {"custom": custom, "answer_generate": answer_generate, "review": review}
    exec(print_plan(plan, has_entry_point=False), space)  # our own text
    assert await space["workflow"]("What?") == answer


async def test_the_grammar_falls_back_on_what_another_node_solves() -> None:
    def solves(identity: int, name: str, half: int) -> Node:
        rewards = {key: (float(index % 2 == half),) for index, key in enumerate(KEYS)}
        text = print_plan(call(name), has_entry_point=True)
        return Node(identity, None, 0, "grammar", "", text, per_problem=rewards)

    proposer = GrammarProposer([("code", True)], 0)
    mine, other = solves(0, "CustomCodeGenerate", 0), solves(1, "Custom", 1)
    found = [
        read_plan((await proposer.propose(Context(mine, 0.5, others=(other,), sample=sample), [])).completion)
        for sample in range(40)
    ]
    assert found.count(fallback("Test", call("CustomCodeGenerate"), call("Custom"))) >= 3
