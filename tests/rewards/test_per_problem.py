"""A search for every problem: what is kept of each, and pass@k over rounds."""

import asyncio
from collections.abc import Sequence

import pytest

from aflow_ops.search.evaluate import Evaluate, Rungs
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.kinds import checker
from aflow_ops.search.loop import Root, Search, SearchSettings, ended_by
from aflow_ops.search.node import Node, Sample
from aflow_ops.search.plan import call, print_plan
from aflow_ops.search.stop import Convergence
from data.problem import Problem
from rewards.searching.per_problem import (
    Searched,
    all_by_problem,
    one_problem,
    pass_at_k_by_round,
    renumbered,
    search_problems,
    split_by_problem,
)
from tests.patience import PATIENCE

KINDS = [("math", False)]
PROBLEMS = {
    f"sums/{index}": Problem.from_row({"question": f"What is {index} + 1?", "answer": "1", "source": "gsm8k"})
    for index in range(4)
}
ROOTS = [Root("no workflow"), Root(print_plan(call("Custom"), has_entry_point=False))]
BROKEN = "sums/1"


async def evaluate(workflow: str, problem: str, repeat: int) -> Sample:
    """One problem's runs all fail; the others are solved by code."""
    if problem == BROKEN:
        return Sample(0.0, False, "timeout", error="TimeoutError: over 180 s")
    return Sample(float("programmer" in workflow), "programmer" in workflow, "ok", tokens=10)


async def searched(
    settings: SearchSettings, done: Sequence[Searched] = (), evaluate: Evaluate = evaluate
) -> list[Node]:
    nodes: list[Node] = []

    def make(key: str, problem: Problem) -> tuple[Search, Sequence[Root]]:
        proposer = GrammarProposer(KINDS, settings.seed, {key: problem.view.text})  # type: ignore[arg-type]
        rungs: Rungs = one_problem(key, 1)
        search = Search(settings, proposer, checker(KINDS), evaluate, {key: problem.view}, rungs)  # type: ignore[arg-type]
        return search, ROOTS

    kept: list[Searched] = []
    found = await search_problems(PROBLEMS, make, done, kept.append, 2)
    assert [*done, *kept] == found
    for each in found:
        nodes += renumbered(each, len(nodes))
    return nodes


@pytest.mark.parametrize(
    "settings",
    [
        SearchSettings(rounds=12, parallel=3),
        SearchSettings(rounds=20, convergence=Convergence()),
        SearchSettings(rounds=0),
    ],
    ids=["rounds", "converged", "no rounds"],
)
async def test_searches_are_read_back_whatever_ended_them(
    settings: SearchSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(own: Sequence[Node]) -> bool:
        return all(node.status != "ok" for node in own) or ended_by(own, settings) is not None

    roots = dict.fromkeys(PROBLEMS, len(ROOTS))
    nodes = await searched(settings)
    assert f"{BROKEN}: find: no workflow to start from ran to its end" in capsys.readouterr().err
    searches, whole = split_by_problem(nodes, roots, ended)
    assert ([each.problem for each in searches], whole) == (list(PROBLEMS), len(nodes))
    assert [len(each.nodes) for each in searches][1] == 2
    last = searches[-1]
    if settings.rounds:
        assert split_by_problem(nodes[:-1], roots, ended) == (searches[:-1], len(nodes) - len(last.nodes))
    assert await searched(settings, searches[:2]) == nodes
    first = pass_at_k_by_round(searches)["0"]["1"]
    assert first["mean"] == 0.0 and first["ci95"][1] < 0.7


async def test_rounds_can_be_added_to_every_search() -> None:
    def ended(own: Sequence[Node]) -> bool:
        return all(node.status != "ok" for node in own) or ended_by(own, SearchSettings(rounds=4)) is not None

    roots, nodes = dict.fromkeys(PROBLEMS, len(ROOTS)), await searched(SearchSettings(rounds=2))
    assert split_by_problem(nodes, roots, ended) == ([], 0)
    begun = all_by_problem(nodes, roots)
    assert [(each.problem, len(each.nodes)) for each in begun] == [(key, 2 if key == BROKEN else 4) for key in PROBLEMS]
    assert [node for each in begun for node in renumbered(each, 0)][:4] == nodes[:4]
    assert [len(each.nodes) for each in all_by_problem(nodes[:3], roots)] == [3]


async def test_a_slow_problem_holds_up_no_other() -> None:
    settings, last = SearchSettings(rounds=0), asyncio.Event()

    async def first_ends_last(workflow: str, problem: str, repeat: int) -> Sample:
        if problem == "sums/3":
            last.set()
        if problem == "sums/0":
            await last.wait()
        return await evaluate(workflow, problem, repeat)

    async with asyncio.timeout(PATIENCE):
        assert await searched(settings, evaluate=first_ends_last) == await searched(settings)


def test_pass_at_k_counts_the_problem_for_which_nothing_ran() -> None:
    def node(identity: int, number: int, problem: str, reward: float) -> Node:
        return Node(identity, None if number == 0 else 0, number, "grammar", "", "x", per_problem={problem: (reward,)})

    solved = Searched("a", tuple(node(number, number, "a", float(number == 1)) for number in range(2)))
    broken = Searched("b", (node(0, 0, "b", 0.0),))
    found = pass_at_k_by_round([solved, broken])
    assert found["1"]["1"]["mean"] == pytest.approx(0.25)
    refused = Searched("c", (Node(0, None, 0, "root", "", "x", status="crashed", unscored={"c": "a filter"}),))
    assert pass_at_k_by_round([solved, broken, refused]) == found
