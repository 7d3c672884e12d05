"""The recipe of GRPO on trajectories as a user calls it, stopped and resumed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.registry import load_problems
from recipes import grpo_replay
from recipes.policy.loading import load_policy, trained_prompt_style
from recipes.run.checkpoints import latest_checkpoint
from recipes.run.command import run_command
from recipes.training.offline_grpo import OfflineGRPOTrainer
from tests.recipes.test_experience import trajectory, write
from tests.recipes.test_offline_grpo import REWARDS, TEXTS, taught_policy
from tests.recipes.tiny_run import tiny_tokenizer


def flags(folder: Path, name: str, *more: str) -> list[str]:
    if not (folder / "base").is_dir():
        taught_policy().save_pretrained(folder / "base")
        tiny_tokenizer().save_pretrained(folder / "base")
        rows = load_problems("arithmetic", "train", 6, 0)
        found = [trajectory(row, *item) for row in rows[:5] for item in zip(TEXTS, REWARDS, strict=True)]
        found += [trajectory(rows[5], TEXTS[0], 1.0)]  # a group of one
        write(folder / "search" / "trajectories.jsonl", found)
    return [
        "--model_name_or_path", str(folder / "base"), "--trajectories", f"search:{folder / 'search'}", "--use_cpu",
        "--bf16", "false", "--dtype", "float32", "--prompt_style", "brief", "--output_dir", str(folder / name),
        "--max_steps", "6",
        "--save_steps", "2", "--num_generations", "4", "--per_device_train_batch_size", "8", "--logging_steps", "1",
        "--gradient_accumulation_steps", "1", "--learning_rate", "1e-2", "--lora_r", "4", "--lora_target_modules",
        "q_proj", "v_proj", "--activation_checkpointing", "false", *more,
    ]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["grpo_replay.py", *arguments])
    return run_command(grpo_replay.main)


def test_a_run_leaves_a_policy_and_what_it_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, flags(tmp_path, "run", "--backup_url", str(tmp_path / "backup"))) == 0
    said = capsys.readouterr()
    assert "20 trajectories of 5 problems (math 20)" in said.err and "5 of 5 groups" in said.err, said.err
    folder = tmp_path / "run"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trajectories"]["rows"] == 20 and summary["trajectories"]["groups_with_signal"] == 5
    assert summary["trajectories"]["too_long"] == 0
    assert "training" in summary["seconds"] and trained_prompt_style(str(folder)) == "brief"
    columns = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "replay/shaped", "replay/logprob", "kl", "reward"} <= set(columns)
    assert not (folder / "rollouts.jsonl").exists()
    load_policy(str(tmp_path / "base"), str(folder))
    for name in ("adapter_model.safetensors", "model.safetensors"):  # a base that is a folder goes along
        assert any((tmp_path / "backup").rglob(name))


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, flags(tmp_path, "whole")) == 0
    step = OfflineGRPOTrainer.training_step

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise RuntimeError("stopped")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(OfflineGRPOTrainer, "training_step", failing)
    with pytest.raises(RuntimeError, match="stopped"):
        run(monkeypatch, flags(tmp_path, "stopped"))
    monkeypatch.setattr(OfflineGRPOTrainer, "training_step", step)
    start = latest_checkpoint(tmp_path / "stopped")
    assert start is not None and start.step == 2
    assert run(monkeypatch, flags(tmp_path, "stopped")) == 2  # never over an earlier run
    assert run(monkeypatch, flags(tmp_path, "stopped", "--resume_from_checkpoint", "auto")) == 0
    whole, stopped = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--trajectories", "absent.jsonl"), "no such file"),
        (("--replay_shaping", "0"), "replay_shaping=0"),
        (("--trajectories_per_workflow", "0"), "trajectories_per_workflow=0 must be at least 1"),
        (("--temperature_final", "0.2"), "temperature_final=0.2: nothing is sampled"),
        (("--use_vllm",), "use_vllm: nothing is sampled"),
        (("--importance_sampling_level", "sequence"), "use token"),
        (("--push_to_hub",), "push_to_hub"),
        (("--trajectories_per_problem", "1"), "no problem has two workflows"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(
    more: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, flags(tmp_path, "run", *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_held_out_problems_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = flags(tmp_path, "run", "--dry_run")
    assert run(monkeypatch, arguments) == 0 and "5 groups; nothing was started" in capsys.readouterr().out
    problem = load_problems("arithmetic", "heldout", 1, 0)[0]
    write(tmp_path / "search" / "trajectories.jsonl", [trajectory(problem, text, 1.0) for text in TEXTS])
    assert run(monkeypatch, arguments) == 2
    assert "4 of 4 trajectories are of held-out problems" in capsys.readouterr().err
