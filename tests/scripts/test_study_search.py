"""The comparison of the search with sampling."""

import pytest

from aflow_ops.search.kinds import checker
from aflow_ops.search.plan import branch, call, print_plan, vote
from scripts.searching.landscape import OPTIMUM, POOR, Landscape
from scripts.study_search import STRATEGIES, Environment, found_by, table


def printed(plan: object) -> str:
    return print_plan(plan, has_entry_point=False)  # type: ignore[arg-type]


async def test_the_landscapes_best_workflow_branches_and_its_value_is_known() -> None:
    landscape = Landscape(3, 30)
    steps = [call(second, call(source)) for source, second in landscape.wanted.values()]
    best = branch("starts 'Compute'", steps[0], branch("starts 'Find'", steps[1], steps[2]))
    assert landscape.value(printed(best)) == pytest.approx(OPTIMUM)
    assert landscape.value(printed(steps[0])) < OPTIMUM - 0.1
    assert landscape.value(printed(call("Custom"))) == pytest.approx(POOR + (1 - POOR) * 0.1)
    assert landscape.value(printed(vote("ScEnsemble", steps[0], call("Custom")))) == landscape.value(printed(steps[0]))
    samples = [await landscape(printed(best), key, repeat) for key in landscape.problems for repeat in range(40)]
    assert sum(sample.reward for sample in samples) / len(samples) == pytest.approx(OPTIMUM, abs=0.03)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_strategy_spends_its_tokens_and_finds_nothing_worse_than_the_root(strategy: str) -> None:
    landscape = Landscape(1, 12)
    spent = 0

    async def evaluate(workflow: str, problem: str, repeat: int) -> object:
        nonlocal spent
        sample = await landscape(workflow, problem, repeat)
        spent += sample.tokens
        return sample

    place = Environment([("math", False)], landscape.problems, evaluate, checker([("math", False)]))  # type: ignore[arg-type]
    found = await found_by(strategy, place, 1, 3_000)
    assert landscape.value(found) >= landscape.value(printed(call("Custom")))
    assert 3_000 <= spent < 6_000


def test_the_table_says_who_won_whichever_way_it_fell() -> None:
    shown = table({"aflow": [0.5, 0.5, 0.9], "random": [0.4, 0.5, 1.0]}).splitlines()
    assert shown[3].startswith("| `random` | 0.633 | +0.000 |") and shown[3].endswith("| 1 | 1 | 1 |")
