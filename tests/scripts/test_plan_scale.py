"""The plan for large runs: what it prints is what its page shows, and follows from its numbers."""

import json
from pathlib import Path

import pytest

from scripts.plan_scale import Costs, Load, demand, measured_costs
from tests.commands import ROOT, fails, run


def test_the_page_shows_what_the_command_prints() -> None:
    done = run("scripts/plan_scale.py")
    assert done.returncode == 0, done.stderr
    page = (ROOT / "accelerate_configs/large_runs.md").read_text().split("```")[1]
    assert [line.split() for line in done.stdout.splitlines()] == [line.split() for line in page.strip().splitlines()]


def test_demands_grow_with_the_gpus_and_a_node_is_a_node() -> None:
    small, large = (demand(gpus, Load(), Costs()) for gpus in (8, 64))
    for name in ("rollouts a step", "calls a minute", "rollouts.jsonl, GB in 500 steps"):
        assert large[name] == pytest.approx(8 * small[name])
    for name in ("cores a node for workflows", "calls in flight, a process"):
        assert large[name] == small[name]
    slow = demand(8, Load(workflow_seconds=90), Costs())
    assert slow["step, --rollouts_ahead 1, s"] == 90 and slow["step, --rollouts_ahead 0, s"] == 135


def test_costs_are_read_from_a_bench(tmp_path: Path) -> None:
    rows = [{"stage": "sandboxed program", "value": 33.0, "unit": "ms a run"}, {"stage": "x", "value": 1, "unit": "s"}]
    (tmp_path / "bench.json").write_text(json.dumps(rows))
    assert measured_costs(tmp_path / "bench.json") == Costs(program_ms=33.0)
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "nowhere.json"):
        fails(run("scripts/plan_scale.py", "--bench", tmp_path / name), 2, f"{name} is no file of scripts/bench.py")
    fails(run("scripts/plan_scale.py", "--gpus", "8", "0"), 2, "--gpus 0 must be at least 1")
    fails(run("scripts/plan_scale.py", "--latency", "0"), 2, "--latency must be above 0")


def test_the_stages_that_are_read_are_stages_of_the_bench() -> None:
    from scripts.bench import STAGES as MEASURED
    from scripts.plan_scale import CPU_STAGE, PROGRAM_STAGE

    assert {CPU_STAGE, PROGRAM_STAGE} <= {stage.name for stage in MEASURED}
