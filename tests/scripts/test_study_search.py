"""The comparison of the search with sampling."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aflow_ops.search.choose import Final
from aflow_ops.search.evaluate import Rungs, with_runs
from aflow_ops.search.expand import Context, Proposal
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.independent import Independent
from aflow_ops.search.kinds import checker
from aflow_ops.search.node import Node, Sample, Spend
from aflow_ops.search.plan import branch, call, print_plan, vote
from data.problem import DataError
from scripts import study_search
from scripts.search_quickstart import markdown
from scripts.searching.compared import read_compared, write_compared
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


@pytest.mark.parametrize("at_once", [1, 4])
async def test_independent_samples_spend_what_they_are_given_however_many_are_made_at_once(at_once: int) -> None:
    landscape, kinds = Landscape(1, 12), [("math", False)]
    proposer, rungs = GrammarProposer(kinds, 1), Rungs(tuple(landscape.problems))  # type: ignore[arg-type]
    text = printed(call("Custom"))
    samples = {key: [await landscape(text, key, 0)] for key in landscape.problems}
    root = replace(with_runs(Node(0, None, 0, "root", "", text), samples), tokens=Spend())
    final = Final(landscape, Rungs(()))
    independent = Independent(proposer, checker(kinds), landscape, rungs, final, at_once)  # type: ignore[arg-type]
    await independent.run(root, 2_000)
    dearest = max(node.tokens.executor for node in independent.nodes)
    assert 2_000 <= independent.tokens < 2_000 + at_once * dearest
    assert independent.tokens == sum(node.tokens.executor for node in independent.nodes)
    assert len({node.workflow for node in independent.nodes}) == len(independent.nodes) > at_once


async def test_one_proposal_for_ever_is_not_paid_for_for_ever() -> None:
    asked, text = 0, printed(call("AnswerGenerate"))

    class Stubborn(GrammarProposer):
        async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
            nonlocal asked
            asked += 1
            return Proposal(text, "the same")

    landscape = Landscape(1, 12)
    samples = {key: [Sample(0.2, False, "ok")] for key in landscape.problems}
    root = with_runs(Node(0, None, 0, "root", "", printed(call("Custom"))), samples)
    final, rungs = Final(landscape, Rungs(())), Rungs(tuple(landscape.problems))
    proposer = Stubborn([("math", False)], 1)
    independent = Independent(proposer, checker([("math", False)]), landscape, rungs, final, 4)
    await independent.run(root, 100_000)
    assert len(independent.nodes) == 2 and asked < 120


def test_the_table_says_who_won_whichever_way_it_fell() -> None:
    shown = table({"aflow": [0.5, 0.5, 0.9], "random": [0.4, 0.5, 1.0]}).splitlines()
    assert shown[3].startswith("| `random` | 0.633 | +0.000 |") and shown[3].endswith("| 1 | 1 | 1 |")


def study(monkeypatch: pytest.MonkeyPatch, output: Path, seeds: int) -> None:
    flags = ["--seeds", str(seeds), "--tokens", "2000", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["study_search.py", *flags])
    study_search.main()


def test_a_seed_that_has_ended_is_kept_and_one_of_other_code_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study(monkeypatch, tmp_path, 2)
    first = capsys.readouterr()
    assert [line[:7] for line in first.err.splitlines()] == ["seed 0:", "seed 1:"]
    study(monkeypatch, tmp_path, 2)
    assert capsys.readouterr() == (first.out, "")
    study(monkeypatch, tmp_path, 1)
    assert "| 0 | 1 | 0 |" in capsys.readouterr().out  # of the seeds that are asked for
    rows = read_compared(tmp_path / "landscape.jsonl")
    assert [row.seed for row in rows] == [0, 1]
    write_compared(tmp_path / "landscape.jsonl", [replace(rows[0], fingerprint="another"), rows[1]])
    study(monkeypatch, tmp_path, 2)
    assert capsys.readouterr().err.startswith("seed 0:")
    assert read_compared(tmp_path / "landscape.jsonl") == rows


@pytest.mark.parametrize("text", ["{", "[1]", '{"seed": 1}', "3"])
def test_a_damaged_file_of_seeds_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "landscape.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"landscape\.jsonl: cannot be read"):
        read_compared(tmp_path / "landscape.jsonl")


def test_seeds_end_in_one_table() -> None:
    heldout = {"n": 20, "reward": 0.5, "ci95": [0.3, 0.7]}
    shown = [{"name": "found", **heldout, "gain": None}]
    shown += [{"name": name, **heldout, "gain": {"mean": 0.1, "ci95": [-0.05, 0.25]}} for name in "abcd"]
    result = {"seconds": 271.4, "resumed": False, "searches": {"all_at_once": shown}}
    table = markdown({1: result, 2: {**result, "resumed": True}}).splitlines()
    assert table[2] == "| 1 | all at once, 20 | 0.500 | 0.500 | +0.10 [-0.05, +0.25] | 0.500 | 0.500 |"
    assert table[-1] == "seed 1: 271 s; seed 2: 271 s (resumed)"
