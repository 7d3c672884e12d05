"""The report of a search's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.search.node import Node, Spend, Validation
from scripts.reporting.search_page import difference, render_search

CUSTOM = "async def workflow(problem):\n    return (await custom(input=problem))['response']"
COMPUTED = "async def workflow(problem):\n    return (await programmer(problem=problem))['output']"


def node(identity: int, parent: int | None, workflow: str, reward: float, **more: Any) -> Node:
    validation = Validation(8, 1, reward, reward, 0.0, (max(0.0, reward - 0.1), min(1.0, reward + 0.1)))
    fields = {"validation": validation, "cost_usd": Spend(0.001, 0.008 * (identity + 1)), "tokens": Spend(10, 800)}
    return Node(identity, parent, identity, "openai", f"change <{identity}>", workflow, **(fields | more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nodes = [
        node(0, None, CUSTOM, 0.25),
        node(1, 0, COMPUTED, 0.875),
        node(2, 1, "nothing <b>bold</b>", 0.0, status="rejected", validation=None, error="find: no <i>workflow</i>"),
        node(3, 1, CUSTOM + "\n# x", 0.0, status="crashed", error="KeyError: 'output'"),
    ]
    rows = [json.dumps(each.to_row()) for each in nodes]
    (tmp_path / "nodes.jsonl").write_text("\n".join([*rows[:3], "{damaged", *rows[3:]]) + "\n")
    heldout = {"n": 8, "reward": 0.8, "correct": 0.75, "ci95": [0.6, 0.95], "tokens": 900}
    control = {"heldout": {**heldout, "reward": 0.3}, "tokens": 500, "cost_usd": 0.0}
    summary = {
        "search": "s", "mode": "dataset", "rounds": 3, "stopped": "rounds",
        "best": {"id": 1, "validation": {"reward": 0.875, "n": 8}, "heldout": heldout, "gap": 0.075},
        "controls": {"root": control, "fixed: Programmer": control},
        "pass_at_k": {"0": {"1": {"mean": 0.2, "ci95": [0.1, 0.4]}}, "3": {"1": {"mean": 0.6, "ci95": [0.4, 0.8]}}},
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def test_the_report_shows_tree_course_controls_differences_and_failures(folder: Path) -> None:
    page = render_search(folder)
    assert "4 nodes, 1 unreadable lines" in page
    assert "pass@1: 0.6 [0.400, 0.800]" in page and "mark line interval" in page  # pass@1 of round 3 with its interval
    assert "stopped: rounds" in page and "Rejected, and not drawn: 1." in page
    assert "+# x" in page and "nothing &lt;b&gt;bold" in page  # what crashed and what was refused, as it was written
    for said in ("change &lt;1&gt;", "0.875", "0.800", "Programmer", "pass@1", "no other is cheaper and better"):
        assert said in page
    assert "+    return (await programmer(problem=problem))" in page.replace("&#39;", "'").replace("&#x27;", "'")
    assert "KeyError" in page and "no &lt;i&gt;workflow" in page
    assert "<b>bold" not in page and "<i>workflow" not in page  # what others wrote is text
    assert page.count("<circle") >= 3 and "rejected or crashed" in page


def test_without_a_price_cost_is_in_tokens(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "nodes.jsonl").read_text().splitlines() if line != "{damaged"]
    rows = [{**row, "cost_usd": {"optimizer": 0.0, "executor": 0.0}} for row in rows]
    (folder / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "[" * 100_000)
    page = render_search(folder)
    assert "tokens a problem" in page and "100 tokens a problem" in page and "no other is cheaper and better" in page


def test_of_searches_problem_by_problem_the_means_are_shown_and_what_is_unsolved(tmp_path: Path) -> None:
    nodes = []
    for problem, rewards in (("a", (0.0, 1.0)), ("b", (0.2, 0.0))):
        for number, reward in enumerate(rewards):
            parent = len(nodes) - 1 if number else None
            validation = Validation(1, 1, reward, reward, 0.0, (reward, reward))
            nodes.append(Node(len(nodes), parent, number, "grammar", "m", f"{CUSTOM} # {len(nodes)}",
                              validation=validation, per_problem={problem: (reward,)},
                              failed={"b": "timeout"} if reward == 0.0 and problem == "b" else {}))  # fmt: skip
    (tmp_path / "nodes.jsonl").write_text("".join(json.dumps(each.to_row()) + "\n" for each in nodes))
    page = render_search(tmp_path)
    assert "Means over 2 problems" in page
    assert "a round: 0.5 [" in page and "best so far: 0.6 [" in page and "best so far: 0.1 [" in page
    assert ">b</td>" in page.replace(" ", "") and ">a</td>" not in page.replace(" ", "")


def test_a_search_that_is_still_running_has_a_report_too(folder: Path) -> None:
    (folder / "summary.json").unlink()
    text = (folder / "nodes.jsonl").read_text()
    (folder / "nodes.jsonl").write_text(text[: len(text) - 40])
    page = render_search(folder)
    assert "summary.json" in page and "change &lt;1&gt;" in page


def test_the_difference_is_what_was_changed() -> None:
    parent, child = node(0, None, CUSTOM, 0.1), node(1, 0, COMPUTED, 0.2, prompts={"P": "think"})
    assert difference(None, parent) == CUSTOM
    changed = difference(parent, child).splitlines()
    assert [line for line in changed if line.startswith("-")] == ["-" + CUSTOM.splitlines()[1]]
    assert "+P = 'think'" in changed
    assert difference(parent, parent) == "nothing"
