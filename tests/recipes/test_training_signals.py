"""Ctrl-C and SIGTERM while a recipe trains: everything it started is gone soon, and what it wrote is whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from recipes.policy.tiny import build_tiny_policy
from tests.patience import PATIENCE
from tests.recipes.tiny_run import tiny_tokenizer

ROOT = Path(__file__).parents[2]
LAUNCH = ["-m", "accelerate.commands.launch", "--quiet", "--config_file", str(ROOT / "accelerate_configs/cpu.yaml")]


def tiny_config(folder: Path) -> Path:
    """The quickstart's YAML with a policy of random weights."""
    tokenizer = tiny_tokenizer()
    build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=512, seed=0).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    config = yaml.safe_load((ROOT / "recipes/configs/quickstart.yaml").read_text())
    del config["warm_start_config"]
    config |= {
        "model_name_or_path": str(folder / "base"), "output_dir": str(folder / "run"), "baselines": False,
        "executor_cache_dir": "none", "num_heldout_problems": 3, "num_generations": 4,
        "per_device_train_batch_size": 8, "max_completion_length": 12, "max_steps": 1000,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


@pytest.mark.long
@pytest.mark.parametrize(
    ("launcher", "number", "code", "flags"),
    [
        ([], signal.SIGINT, 130, []),
        (LAUNCH, signal.SIGTERM, -signal.SIGTERM, []),
        ([], signal.SIGINT, 130, ["--rollouts_ahead", "1"]),
    ],
    ids=["SIGINT", "SIGTERM to accelerate launch", "SIGINT with rollouts ahead"],
)
def test_a_signal_during_training_leaves_no_process_and_whole_files(
    launcher: list[str], number: int, code: int, flags: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, *launcher, str(ROOT / "tests/recipes/given_run.py")]
    command += ["--config", str(tiny_config(tmp_path)), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    written = tmp_path / "run" / "rollouts.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not written.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()[1]
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("executor.embedded" in " ".join(child.cmdline()) for child in started)
    process.send_signal(number)
    _, alive = psutil.wait_procs(started, timeout=PATIENCE)
    process.kill() if alive else None
    _, err = process.communicate(timeout=PATIENCE)
    assert alive == []
    assert process.returncode == code, err
    assert "Traceback" not in err
    for line in written.read_text().splitlines():
        json.loads(line)
    assert not (tmp_path / "run" / "executor.url").exists()
