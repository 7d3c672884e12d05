"""The quickstart itself, all of it, killed again and again: half an hour, so it runs only when asked for.

AFLOW_RECIPES_QUICKSTART_KILLS=20 pytest tests/recipes/test_quickstart_kills.py -n 0 -s
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recipes.run.rollout_log import open_part, rollout_files

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("AFLOW_RECIPES_QUICKSTART_KILLS", "0"))
# Columns that tell what was trained; the others tell how long it took and what was paid.
TRAINED = ("step", "reward", "loss", "grad_norm", "learning_rate", "entropy", "workflow/valid")


def start(folder: Path, name: str, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "recipes/grpo_mixed.py", "--config", "recipes/configs/quickstart.yaml", "--no_baselines"]
    command += ["--model_name_or_path", str(folder / "policy"), "--executor_cache_dir", str(folder / "cache")]
    command += ["--output_dir", str(folder / name), "--resume_from_checkpoint", "auto", *flags]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def rows_of(run: Path) -> list[dict[str, Any]]:
    rows = []
    for path in rollout_files(run / "rollouts.jsonl"):
        with open_part(path) as file:
            rows += [{**json.loads(line), "trace": None} for line in file if line.endswith(b"\n")]
    return rows


def metrics_of(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open() as file:
        return [[row[name] for name in TRAINED] for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not KILLS, reason="half an hour; set AFLOW_RECIPES_QUICKSTART_KILLS=20")
def test_the_killed_quickstart_ends_with_the_same_adapter(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(tmp_path, "whole").wait() == 0, (tmp_path / "whole.log").read_text()[-3000:]
    steps = len(metrics_of(whole))
    dice, killed_at = random.Random(11), []
    for turn in range(KILLS):
        # so far, at random, that the kills are spread over the run; the last steps are over before one is aimed at them
        goal = dice.uniform(turn, turn + 1) * (steps - 4) / KILLS
        process = start(tmp_path, "killed")
        seen = -1.0
        while process.poll() is None and seen < goal:
            time.sleep(0.05)
            rows = rows_of(killed)
            seen = rows[-1]["step"] if rows else -1.0
        assert process.poll() is None, f"it ended before kill {turn}: " + (tmp_path / "killed.log").read_text()[-3000:]
        time.sleep(dice.uniform(0, 3))  # anywhere in the next step, or the one after
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed_at.append(int(seen))
        print(f"kill {turn + 1} of {KILLS} after step {int(seen)}")
    assert start(tmp_path, "killed").wait() == 0, (tmp_path / "killed.log").read_text()[-3000:]
    adapters = [(run / "adapter_model.safetensors").read_bytes() for run in (whole, killed)]
    assert adapters[0] == adapters[1]
    assert rows_of(whole) == rows_of(killed)
    assert metrics_of(whole) == metrics_of(killed)
    print(f"{KILLS} kills after steps {killed_at}: the same adapter, {steps} steps, {len(rows_of(whole))} rollouts")
