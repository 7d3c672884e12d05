"""The quickstart, cut short: warm start, embedded executor, GRPO, evaluation, files. Every part is the real one."""

import csv
import json
import math
from pathlib import Path

import pytest

from tests.recipes.short_quickstart import five_steps, launch


@pytest.mark.long
def test_a_short_run_leaves_everything_a_reader_relies_on(tmp_path: Path) -> None:
    done = launch(tmp_path, "--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1", "--report_to", "wandb")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning" not in done.stderr.lower(), done.stderr
    shown = (done.stderr + done.stdout).splitlines()
    rows = {line.replace(str(tmp_path), "outputs").partition(": ")[0][:20]: line for line in shown}  # a bar counts once
    widths = [len(line.replace(str(tmp_path), "outputs")) for line in rows.values()]
    assert sum(max(1, math.ceil(width / 100)) for width in widths) <= 24, "\n".join(shown)
    assert "held-out mean reward" in done.stdout
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert {"run", "seconds", "heldout", "executor"} <= set(summary)
    assert {
        "n", "before", "after", "gain", "gain_ci95", "gain_valid_only", "valid_before", "valid_after", "by_domain",
        "baselines",
    } <= set(summary["heldout"])  # fmt: skip
    assert set(summary["heldout"]["by_domain"]) == {"math", "qa", "code"}
    assert len(summary["heldout"]["baselines"]) == 12
    assert {"calls", "cache_hits", "tokens", "cost_usd"} <= set(summary["executor"])
    assert "wandb: offline: no API key" in done.stderr and list(run.glob("wandb/offline-run-*/*.wandb"))
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    for key in ("prompt", "completion", "workflow", "trace", "grade", "reward", "advantage"):
        assert key in rows[0]
    with (run / "metrics.csv").open() as file:
        logs = list(csv.DictReader(file))
    assert float(logs[0]["workflow/valid"]) >= 0
    assert (run / "reward_curve.png").stat().st_size > 5_000
    assert (run / "adapter_model.safetensors").is_file()
    assert not (run / "executor.url").exists()
    resumed = launch(
        tmp_path, "--max_steps", "3", "--no_baselines", "--resume_from_checkpoint", str(run / "checkpoint-2")
    )
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "(cached)" in resumed.stderr
    said = next(line for line in resumed.stderr.splitlines() if line.startswith("going on from "))
    assert (
        said.startswith(f"going on from {run / 'checkpoint-2'}: step 2 of 3; changed: ") and "max_steps 2 -> 3" in said
    )
    steps = [json.loads(line)["step"] for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [0, 1, 2]


@pytest.mark.long
def test_on_the_same_replies_a_run_is_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = (five_steps(tmp_path, name) for name in ("1", "2"))
    assert len({row["reward"] for row in first["rollouts.jsonl"]}) > 1  # there is something to compare
    assert first == second
