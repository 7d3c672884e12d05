"""The recipe of Score-DPO as a user calls it: two iterations against an executor, and a stop in the second."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aflow_ops.errors import UsageError
from data.registry import load_problems
from data.trajectories import read_trajectories
from recipes import dpo_search
from recipes.policy.loading import load_policy
from recipes.policy.tiny import build_tiny_policy
from recipes.run.command import run_command
from recipes.training.score_dpo import ScoreDPOTrainer
from tests import commands
from tests.recipes.test_experience import trajectory, write
from tests.recipes.tiny_run import ASK, tiny_tokenizer
from tests.stub_endpoint import StubEndpoint

BAD = "Custom -> Format"


def flags(folder: Path, url: str, name: str, *more: str) -> list[str]:
    base = folder / "base"
    if not base.is_dir():
        tokenizer = tiny_tokenizer()
        build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=512, seed=0).save_pretrained(base)
        tokenizer.save_pretrained(base)
        rows = load_problems("arithmetic", "train", 6, 42)
        texts = ((ASK, 1.0), (BAD, 0.2), ("nonsense", 0.0))
        write(folder / "search" / "trajectories.jsonl", [trajectory(row, *text) for row in rows for text in texts])
    return [
        "--model_name_or_path", str(base), "--trajectories", str(folder / "search"), "--sources", "arithmetic",
        "--domain_mix", "math=1", "--num_train_problems", "4", "--num_heldout_problems", "3", "--prompt_style", "brief",
        "--output_dir", str(folder / name), "--executor_base_url", url, "--executor_cache_dir", str(folder / "cache"),
        "--use_cpu", "--bf16", "false", "--dtype", "float32", "--max_steps", "3", "--save_steps", "1",
        "--logging_steps", "1",
        "--num_pairs", "12", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1",
        "--learning_rate", "1e-2", "--max_completion_length", "8", "--max_length", "256", "--samples_per_problem", "3",
        "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj", "--activation_checkpointing", "false",
        "--executor_model", "stub", *more,
    ]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["dpo_search.py", *arguments])
    return run_command(dpo_search.main)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The policy writes workflows that run, and notes with which adapter it was asked to."""
    adapters: list[Any] = []

    def given(model: str, adapter: str | None, problems: list[Any], *, samples: int, **_: Any) -> list[Any]:
        adapters.append(adapter)
        load_policy(model, adapter)
        different = {problem.id: problem for problem in problems}.values()
        return [(problem, text) for problem in different for text in (ASK, BAD, "more nonsense")[:samples]]

    monkeypatch.setattr(dpo_search, "write_workflows", given)
    return adapters


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_it_trains_on_a_search_samples_scores_and_trains_again(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    written: list[Any],
) -> None:  # fmt: skip
    stub.answer = lambda messages: "5"
    assert run(monkeypatch, flags(tmp_path, stub.url, "run")) == 0, capsys.readouterr().err
    folder = tmp_path / "run"
    first, second = folder / "iteration-1", folder / "iteration-2"
    assert written == [str(first)]
    rows = read_trajectories(second / "trajectories.jsonl")
    assert len({row.key for row in rows}) == 4 and len(rows) == 12
    assert {row.outcome for row in rows if row.completion == "more nonsense"} == {"policy_error"}
    assert all(row.origin == "policy" and row.form == "design" for row in rows)
    one, two = adapter(first), adapter(second)
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(value, two[name]) for name, value in adapter(folder).items())
    reference = load_file(second / "ref" / "adapter_model.safetensors")  # the policy as the first iteration left it
    assert all(torch.equal(value, one[name]) for name, value in reference.items())
    summary = json.loads((folder / "summary.json").read_text())
    # Two of the three that it wrote for a problem were there already: runs of one workflow, whoever wrote it.
    assert [item["trajectories"]["rows"] for item in summary["iterations"]] == [18, 22]
    assert {item["trajectories"]["groups"] for item in summary["iterations"]} == {6}
    assert summary["prompt_style"] == "brief" and summary["seconds"]["iteration-2_sampling"] >= 0
    assert "rewards/margins" in (folder / "metrics.csv").read_text().splitlines()[0]
    load_policy(str(tmp_path / "base"), str(folder))
    with pytest.raises(UsageError, match="--resume_from_checkpoint auto"):
        monkeypatch.setattr(sys, "argv", ["dpo_search.py", *flags(tmp_path, stub.url, "run")])
        dpo_search.main()


def test_a_run_that_was_stopped_in_each_iteration_ends_as_if_it_had_not_been(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, written: list[Any]
) -> None:
    stub.answer = lambda messages: "5"
    assert run(monkeypatch, flags(tmp_path, stub.url, "whole")) == 0
    step, stops = ScoreDPOTrainer.training_step, ["iteration-1", "iteration-2"]

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        if stops and self.args.output_dir.endswith(stops[0]) and self.state.global_step == 2:
            raise RuntimeError(f"stopped in {stops.pop(0)}")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(ScoreDPOTrainer, "training_step", failing)
    with pytest.raises(RuntimeError, match="stopped in iteration-1"):
        run(monkeypatch, flags(tmp_path, stub.url, "stopped"))
    again = flags(tmp_path, stub.url, "stopped", "--resume_from_checkpoint", "auto")
    with pytest.raises(RuntimeError, match="stopped in iteration-2"):
        run(monkeypatch, again)
    assert run(monkeypatch, again) == 0
    assert len(written) == 2  # once a run, wherever it was stopped
    whole, stopped = adapter(tmp_path / "whole"), adapter(tmp_path / "stopped")
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())


def test_an_iteration_that_is_backed_up_is_not_done_again_on_another_machine(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, written: list[Any]
) -> None:
    stub.answer = lambda messages: "5"
    backup = ("--backup_url", str(tmp_path / "backup"))
    assert run(monkeypatch, flags(tmp_path, stub.url, "whole", *backup, "--iterations", "1")) == 0
    assert not (tmp_path / "whole" / "checkpoint-1" / "iteration-1" / "training_args.bin").exists()
    done = commands.run("scripts/restore.py", tmp_path / "backup", "--output_dir", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    trained: list[str] = []
    init = ScoreDPOTrainer.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        trained.append(Path(options["args"].output_dir).name)
        init(self, *args, **options)

    monkeypatch.setattr(ScoreDPOTrainer, "__init__", noted)
    assert run(monkeypatch, flags(tmp_path, stub.url, "other", "--resume_from_checkpoint", "auto")) == 0
    assert trained == ["iteration-2"] and len(written) == 1
    one, other = adapter(tmp_path / "whole"), adapter(tmp_path / "other" / "iteration-1")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a machine without a GPU")
@pytest.mark.parametrize("name", ["dpo_search", "grpo_replay"])
def test_what_is_missing_on_any_machine_is_said_before_what_is_missing_on_this_one(name: str) -> None:
    done = commands.run(f"recipes/{name}.py")
    commands.fails(done, 2, "trajectories: name what to learn from")
    commands.fails(commands.run(f"recipes/{name}.py", "--trajectories", "x"), 2, "none was found")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--resume_from_checkpoint", "outputs/x"), "goes on with 'auto'"),
        (("--iterations", "0"), "iterations=0"),
        (("--trajectories_per_problem", "0"), "trajectories_per_problem=0 must be at least 1"),
        (("--use_weighting",), "--no_score_weighting"),
        (("--push_to_hub",), "push_to_hub"),
        (("--trajectories", "absent.jsonl"), "no such file"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(
    more: tuple[str, ...], words: str, tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, flags(tmp_path, stub.url, "run", *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_starts_nothing(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, flags(tmp_path, stub.url, "run", "--dry_run")) == 0
    assert "18 trajectories of 6 problems" in capsys.readouterr().out and not (tmp_path / "run").exists()
