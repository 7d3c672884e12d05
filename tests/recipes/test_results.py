import json
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.executor import ExecutorUsage
from recipes.policy.loading import trained_prompt_style
from recipes.run.results import HeldOut, best_workflows, print_results, write_results


def row(id: str, reward: float | None, domain: str = "math", workflow: str | None = "Custom") -> dict[str, Any]:
    return {"id": id, "source": "made", "domain": domain, "reward": reward, "workflow": workflow}


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
    assert RESULT.domains == ["math", "qa"]
    assert RESULT.in_domain("qa").summary()["n"] == 1


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
    assert len((tmp_path / "heldout.jsonl").read_text().splitlines()) == 8
    assert (tmp_path / "reward_curve.png").stat().st_size > 5_000
    assert "held-out mean reward" in capsys.readouterr().out


def test_in_a_log_the_results_are_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "async def workflow(problem):\n" + "    await custom(input=problem)\n" * 20
    after = [row(str(n), 1.0, domain, f"{long}    # {n}") for n, domain in enumerate(["math", "qa", "code"] * 4)]
    print_results(tmp_path, HeldOut(after, after, {"Custom": after}))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 12 and all(len(line) <= 100 for line in lines[:-1])
    assert sum("await custom" in line for line in lines) == 3


def test_a_run_without_baselines_or_logs_still_reports(tmp_path: Path) -> None:
    write_results(tmp_path, HeldOut(BEFORE, AFTER, {}), {}, ExecutorUsage(), [], "full")
    print_results(tmp_path, HeldOut(BEFORE, AFTER, {}))
    assert json.loads((tmp_path / "summary.json").read_text())["heldout"]["baselines"] == {}
