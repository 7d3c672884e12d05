import json
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.executor import ExecutorUsage
from recipes.policy.loading import trained_prompt_style
from recipes.run.results import HeldOut, best_workflows, print_results, write_results
from recipes.run.routers import against_routers


def row(
    id: str, reward: float | None, domain: str = "math", workflow: str | None = "Custom", source: str = "made"
) -> dict[str, Any]:
    return {"id": id, "source": source, "domain": domain, "reward": reward, "workflow": workflow}


KINDS = {"sums": "math", "texts": "math", "facts": "qa"}
BEFORE = [row("a", 0.0), row("b", 0.2, workflow=None), row("c", 0.4, "qa"), row("d", 0.2, "qa")]
AFTER = [row("a", 1.0), row("b", 1.0), row("c", 0.4, "qa"), row("d", None, "qa")]
RESULT = HeldOut(BEFORE, AFTER, {"Custom": [row("a", 0.7), row("c", 0.7)], "Format": [row("a", 0.0)]})


def test_the_gain_is_paired_over_problems_with_a_reward_both_times() -> None:
    summary = RESULT.summary()
    assert summary["n"] == 3
    assert summary["gain"] == pytest.approx((1.0 + 0.8 + 0.0) / 3)
    assert summary["gain_ci95"][0] <= summary["gain"] <= summary["gain_ci95"][1]
    assert summary["gain_valid_only"] == pytest.approx(0.5)  # problems a and c
    assert (summary["valid_before"], summary["valid_after"]) == (0.75, 1.0)
    assert summary["baselines"] == {"Custom": pytest.approx(0.7), "Format": 0.0}
    assert RESULT.best_baseline() == ("Custom", pytest.approx(0.7))


def test_domains_are_reported_apart() -> None:
    parts = RESULT.split("domain")
    assert list(parts) == ["math", "qa"]
    assert parts["qa"].summary()["n"] == 1


def test_a_finer_router_is_better_and_a_policy_that_tells_kinds_apart_beats_the_one_per_domain() -> None:
    problems = [(f"{source}{n}", source, domain) for source, domain in KINDS.items() for n in range(4)]

    def rows(reward: dict[str, float]) -> list[dict[str, Any]]:
        return [row(id, reward[source], domain, source=source) for id, source, domain in problems]

    fixed = {
        "Programmer": rows({"sums": 1.0, "texts": 0.0, "facts": 0.0}),
        "Answer": rows({"sums": 0.2, "texts": 0.8, "facts": 0.6}),
    }
    policy = rows({"sums": 1.0, "texts": 0.8, "facts": 0.4})
    routers = against_routers(policy, fixed)
    assert routers["single"]["workflows"] == {"all": "Answer"}
    assert routers["by_domain"]["workflows"] == {"math": "Programmer", "qa": "Answer"}
    assert routers["by_source"]["workflows"] == {"facts": "Answer", "sums": "Programmer", "texts": "Answer"}
    assert [routers[name]["reward"] for name in routers] == [pytest.approx(x) for x in (1.6 / 3, 1.6 / 3, 2.4 / 3)]
    assert routers["by_domain"]["difference"] == pytest.approx(0.6 / 3)
    low, high = routers["by_domain"]["difference_ci95"]
    assert -0.2 < low < 0.6 / 3 < high < 0.8
    assert against_routers(policy, {}) == {} == against_routers([], fixed)
    assert against_routers(policy, {"single_agent": fixed["Answer"]}) == {}  # nothing to choose from


def test_a_router_is_compared_on_the_problems_that_both_have_a_reward_for() -> None:
    routers = against_routers(AFTER, RESULT.baselines)
    assert routers["by_domain"]["n"] == routers["single"]["n"] == 2  # a and c
    assert routers["single"]["difference"] == pytest.approx(0.0)


def test_best_workflows_come_one_domain_after_the_other() -> None:
    rows = [row("a", 1.0, "math", "A"), row("b", 0.9, "math", "B"), row("c", 0.3, "qa", "C"), row("d", None, "qa", "D")]
    assert [item[:2] for item in best_workflows(rows, 3)] == [("math", "A"), ("qa", "C"), ("math", "B")]


def test_files_are_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = [{"step": i, "reward": 0.1 * i, "workflow/valid": 0.5} for i in range(1, 6)]
    usage = ExecutorUsage(calls=10, cache_hits=4, prompt_tokens=100, completion_tokens=20, cost_usd=0.5)
    write_results(tmp_path, RESULT, {"training": 1.5}, usage, history, "brief")
    print_results(tmp_path, RESULT)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["run"] == tmp_path.name
    assert summary["executor"]["tokens"] == 120
    assert summary["seconds"] == {"training": 1.5}
    assert trained_prompt_style(str(tmp_path)) == "brief"
    assert summary["heldout"]["by_source"]["made"]["n"] == 3
    assert summary["heldout"]["routers"]["by_domain"]["workflows"] == {"math": "Custom", "qa": "Custom"}
    assert len((tmp_path / "heldout.jsonl").read_text().splitlines()) == 8
    assert (tmp_path / "reward_curve.png").stat().st_size > 5_000
    shown = " ".join(capsys.readouterr().out.split())
    assert "held-out mean reward" in shown and "the best of each domain +0.000 [" in shown


def test_in_a_log_the_results_are_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "async def workflow(problem):\n" + "    await custom(input=problem)\n" * 20
    after = [row(str(n), 1.0, domain, f"{long}    # {n}") for n, domain in enumerate(["math", "qa", "code"] * 4)]
    print_results(tmp_path, HeldOut(after, after, {"Custom": after}))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 13 and all(len(line) <= 100 for line in lines[:-1])
    assert sum("await custom" in line for line in lines) == 3


def test_a_run_without_baselines_or_logs_still_reports(tmp_path: Path) -> None:
    write_results(tmp_path, HeldOut(BEFORE, AFTER, {}), {}, ExecutorUsage(), [], "full")
    print_results(tmp_path, HeldOut(BEFORE, AFTER, {}))
    assert json.loads((tmp_path / "summary.json").read_text())["heldout"]["baselines"] == {}
