"""The loop of search and training as a user calls it: what it leaves, and that a stop changes nothing."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aflow_ops.errors import BudgetExceededError
from data.trajectories import read_trajectories
from recipes import grpo_search
from recipes.policy import generation
from recipes.policy.generation import Sampled
from recipes.policy.loading import load_policy
from recipes.policy.tiny import build_tiny_policy, untie_embeddings
from recipes.run.checkpoints import latest_checkpoint
from recipes.run.command import run_command
from recipes.training.episode_search import EpisodeSearch
from recipes.training.loop_trainer import SearchLoopTrainer
from tests import commands
from tests.commands import KEY
from tests.patience import PATIENCE
from tests.recipes.test_offline_grpo import taught_weights
from tests.recipes.test_trainer import LAUNCHERS
from tests.recipes.tiny_run import ASK, tiny_tokenizer
from tests.stub_endpoint import Messages, StubEndpoint

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("AFLOW_RECIPES_LOOP_KILLS", "10"))
PROGRAM = "async def workflow(problem):\n    return (await programmer(problem=problem))['output']"
# What a policy may reply: designs, good and bad, and edits.
DESIGNS = (f"```python\n{PROGRAM}\n```", f"```python\n{ASK}\n```", "Custom -> Format", "nonsense")
EDITS = (f"<modification>let code compute</modification>\n```python\n{PROGRAM}\n```", "no idea", "Custom -> Programmer")


def executor(messages: Messages) -> str:
    """Writes right code, and guesses otherwise."""
    text = "\n".join(message["content"] for message in messages)
    return "```python\ndef solve():\n    return 204\n```" if "solve" in text else "17"


def policy(folder: Path) -> Path:
    """A policy that reads long prompts and writes a few designs."""
    base = folder / "base"
    if not base.is_dir():
        tokenizer = tiny_tokenizer()
        model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=8192, seed=0)
        model.load_state_dict(taught_weights())
        untie_embeddings(model)
        model.save_pretrained(base)
        tokenizer.save_pretrained(base)
    return base


def aime_like(folder: Path) -> Path:
    """Problems like AIME's, each of a source of its own; all have one id, and one answer, which only code comes to."""
    path = folder / "walks.jsonl"
    question = "Aya walks {} kilometres and rests t minutes in a cafe. How many minutes does the walk take her?"
    fixed = {"id": "1", "answer": "204", "domain": "math"}
    rows = [{"question": question.format(number), "source": f"walk-{number}", **fixed} for number in range(9, 29)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def flags(folder: Path, url: str, name: str, *more: str) -> list[str]:
    return [
        "--model_name_or_path", str(policy(folder)), "--sources", str(aime_like(folder)), "--output_dir",
        str(folder / name), "--executor_base_url", url, "--executor_cache_dir", str(folder / f"cache-{name}"),
        "--num_heldout_problems", "2", "--baselines", "false", "--problems_per_episode", "3", "--episodes", "1",
        "--loop_epochs", "2", "--search_rounds", "2", "--search_iterations", "4", "--grpo_epochs", "2",
        "--prompt_style", "brief", "--use_cpu", "--bf16", "false", "--num_generations", "4",
        "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--learning_rate", "1e-2",
        "--max_completion_length", "160", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj", "--beta", "0",
        "--lora_modules_to_save", "lm_head",
        "--activation_checkpointing", "false", "--temperature", "1", "--top_p", "1", "--top_k", "0", *more,
    ]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["grpo_search.py", *arguments])
    return run_command(grpo_search.main)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The policy's replies are drawn from a few texts, by the seeds that it would sample with; noted batch by batch."""
    batches: list[list[str]] = []
    tokenizer = tiny_tokenizer()

    def sample(model: Any, _: Any, prompts: Sequence[Messages], seeds: Sequence[int], **__: Any) -> list[Sampled]:
        found = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            edit = "You improve agent workflows" in prompt[0]["content"]
            text = random.Random(seed).choice(EDITS if edit else DESIGNS)
            ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
            found.append(Sampled(text, 100, tuple((token, -0.5) for token in ids)))
        batches.append([each.text for each in found])
        return found

    monkeypatch.setattr(generation, "sample_completions", sample)
    return batches


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_it_leaves_what_every_recipe_leaves_and_each_episodes_search(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    written: list[list[str]],
) -> None:  # fmt: skip
    stub.answer = executor
    backup = tmp_path / "backup"
    more = ("--backup_url", str(backup), "--search_iterations", "8")
    assert run(monkeypatch, flags(tmp_path, stub.url, "run", *more)) == 0, capsys.readouterr().err
    folder = tmp_path / "run"
    for name in ("adapter_model.safetensors", "config.yaml", "summary.json", "heldout.jsonl", "reward_curve.png"):
        assert (folder / name).is_file(), name
    load_policy(str(tmp_path / "base"), str(folder))
    for number in (1, 2):
        episode = folder / "search" / f"episode-{number:02d}"
        assert len(json.loads((episode / "settings.json").read_text())["problems"]) == 3
        rows = read_trajectories(episode / "trajectories.jsonl")
        assert {row.form for row in rows} == {"design", "edit"} and len({row.key for row in rows}) == 3
        assert {row.policy and row.policy["step"] for row in rows} > {None}
    logged = metrics(folder)
    episodes = [row for row in logged if row["episode/number"]]
    assert [float(row["episode/number"]) for row in episodes] == [1, 2]
    for name in ("reward", "best_reward", "valid", "pass@1", "pass@4", "correct", "executor_tokens"):
        assert all(float(row[f"episode/{name}"]) >= 0 for row in episodes), name
    assert float(episodes[0]["episode/best_reward"]) > float(episodes[0]["episode/reward"])
    trained = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert {row["replay"]["asked"] for row in trained} == {"design", "edit"}
    assert {row["replay"]["episode"] for row in trained} == {1, 2}
    designs = [row for row in trained if row["replay"]["asked"] == "design"]
    assert all(row["prompt"][-1]["content"] == row["question"] for row in designs)
    assert {row["replay"]["kind"] for row in trained} == {"own", "foreign"}
    assert {row["workflow"] is None for row in trained if row["completion"] in ("nonsense", "no idea")} == {True}
    assert all(row["workflow"] and row["form"] for row in trained if row["outcome"] == "ok")
    assert any(row["advantage"] > 0 for row in trained) and any(row["advantage"] < 0 for row in trained)
    assert "204" not in "".join(message["content"] for row in trained for message in row["prompt"])
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None and (checkpoint.path / "search" / "episode-02" / "nodes.jsonl").is_file()
    assert (checkpoint.path / "optimizer.pt").is_file()
    done = commands.run("scripts/report.py", folder)
    assert done.returncode == 0 and "episode" in (folder / "report.html").read_text().lower()
    assert commands.run("scripts/report.py", folder / "search" / "episode-01").returncode == 0
    assert any(backup.rglob("adapter_model.safetensors")) and any(backup.rglob("*nodes.jsonl*"))


@pytest.mark.long
def test_the_replies_of_a_round_are_one_batch(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, written: list[list[str]]
) -> None:
    """Two proposals for each of three problems first, then again whoever was refused, whenever the executor answers."""
    stub.answer, stub.latency = executor, 0.02
    assert run(monkeypatch, flags(tmp_path, stub.url, "slow")) == 0
    slow = list(written)
    stub.latency = 0.0
    written.clear()
    assert run(monkeypatch, flags(tmp_path, stub.url, "fast")) == 0
    assert written == slow and len(slow[0]) == 6
    same = [(tmp_path / name / "search" / "episode-02" / "nodes.jsonl").read_bytes() for name in ("slow", "fast")]
    assert same[0] == same[1]


@pytest.mark.long
def test_two_processes_find_and_learn_what_one_does(tmp_path: Path, stub: StubEndpoint) -> None:
    """In float32: rounded to bfloat16, what else is in a batch decides what is sampled now and then."""
    stub.answer = executor
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    more = ("--dtype", "float32", "--episodes", "2", "--loop_epochs", "1", "--problems_per_episode", "3")
    found, adapters = [], []
    for name, batch in (("one process", "8"), ("two processes", "4")):
        arguments = flags(tmp_path, stub.url, name, *more, "--per_device_train_batch_size", batch)
        command = [sys.executable, "-m", *LAUNCHERS[name], str(ROOT / "recipes/grpo_search.py"), *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        files = [tmp_path / name / "search" / f"episode-0{number}" / "trajectories.jsonl" for number in (1, 2)]
        found.append([[replace(row, logprobs=None) for row in read_trajectories(file)] for file in files])
        adapters.append(adapter(tmp_path / name))
    assert found[0] == found[1]
    assert all(torch.allclose(value, adapters[1][name], atol=1e-3) for name, value in adapters[0].items())


@pytest.mark.parametrize("stopped_at", [pytest.param("a search", marks=pytest.mark.long), "a step", "a budget"])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    stopped_at: str, tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stub.answer = executor
    more = ("--proposers", "design", "grammar", "--save_strategy", "steps", "--save_steps", "2")
    assert run(monkeypatch, flags(tmp_path, stub.url, "whole", *more)) == 0
    step, write, stops = SearchLoopTrainer.training_step, EpisodeSearch._write, []
    search = EpisodeSearch._search

    def failing_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.episodes.number == 1 and self.episodes.steps[0] == 2 and not stops:
            stops.append("a step")
            raise RuntimeError("stopped")
        return step(self, *args, **kwargs)

    def failing_write(self: Any, number: int, *args: Any) -> None:
        if number == 1:
            raise RuntimeError("stopped")
        write(self, number, *args)

    def failing_search(self: Any, number: int) -> Any:
        if number == 1:
            raise BudgetExceededError("spent")
        return search(self, number)

    if stopped_at == "a step":
        monkeypatch.setattr(SearchLoopTrainer, "training_step", failing_step)
    elif stopped_at == "a search":
        monkeypatch.setattr(EpisodeSearch, "_write", failing_write)
    else:
        monkeypatch.setattr(EpisodeSearch, "_search", failing_search)
    if stopped_at == "a budget":
        assert run(monkeypatch, flags(tmp_path, stub.url, "stopped", *more)) == 3
        checkpoint = latest_checkpoint(tmp_path / "stopped")
        assert checkpoint is not None and f"--resume_from_checkpoint {checkpoint.path}" in capsys.readouterr().err
    else:
        with pytest.raises(RuntimeError, match="stopped"):
            run(monkeypatch, flags(tmp_path, stub.url, "stopped", *more))
    monkeypatch.setattr(SearchLoopTrainer, "training_step", step)
    monkeypatch.setattr(EpisodeSearch, "_write", write)
    monkeypatch.setattr(EpisodeSearch, "_search", search)
    assert run(monkeypatch, flags(tmp_path, stub.url, "stopped", *more)) == 2  # never over an earlier run
    assert run(monkeypatch, flags(tmp_path, stub.url, "stopped", *more, "--resume_from_checkpoint", "auto")) == 0
    same_run(tmp_path / "whole", tmp_path / "stopped")


def same_run(whole: Path, other: Path) -> None:
    """Bit for bit, but for times."""
    assert (whole / "adapter_model.safetensors").read_bytes() == (other / "adapter_model.safetensors").read_bytes()
    for path in sorted((whole / "search").glob("*/*.jsonl")):
        assert path.read_bytes() == (other / path.relative_to(whole)).read_bytes(), path.name
    kept = [
        [[row[name] for name in ("step", "reward", "loss", "episode/reward")] for row in metrics(folder)]
        for folder in (whole, other)
    ]
    assert kept[0] == kept[1]
    assert (whole / "rollouts.jsonl").read_bytes() == (other / "rollouts.jsonl").read_bytes()


def progress(folder: Path) -> int:
    """Rows trained on and episodes searched for, this far."""
    try:
        rows = (folder / "rollouts.jsonl").read_bytes().count(b"\n")
    except OSError:
        rows = 0
    return rows + len(list(folder.glob("search/*/settings.json")))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_run_that_is_killed_at_random_again_and_again_ends_with_the_same_adapter(
    tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answer, stub.latency = executor, 0.01
    more = ("--proposers", "edit", "design", "grammar", "--episodes", "2", "--resume_from_checkpoint", "auto")
    more += ("--search_rounds", "3", "--search_iterations", "6")  # type: ignore[assignment]

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "recipes/grpo_search.py"), *flags(tmp_path, stub.url, name, *more)]
        with (tmp_path / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, "OPENAI_API_KEY": KEY}, stdout=log, stderr=log
            )

    assert start("whole").wait(PATIENCE * 4) == 0, (tmp_path / "whole.log").read_text()[-3000:]
    dice, total = random.Random(5), progress(tmp_path / "whole")
    for turn in range(KILLS):
        goal = dice.uniform(turn, turn + 1) * (total - 2) / KILLS  # spread over the run
        process = start("killed")
        while process.poll() is None and progress(tmp_path / "killed") < goal:
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 2.0))  # in the step or the search that follows
        assert process.poll() is None, (tmp_path / "killed.log").read_text()[-3000:]
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    assert start("killed").wait(PATIENCE * 4) == 0, (tmp_path / "killed.log").read_text()[-3000:]
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--search_iterations", "5", "--search_rounds", "2"), "must be a multiple of search_rounds=2"),
        (("--proposers", "oracle"), "proposers=['oracle']"),
        (("--episodes", "0"), "episodes=0 must be at least 1"),
        (("--replay", "x"), "replay=['x']: this recipe has no use for it"),
        (("--max_steps", "5"), "epochs and episodes decide"),
        (("--lr_scheduler_type", "cosine"), "use constant"),
        (("--temperature_final", "0.2"), "one temperature"),
        (("--warmup_steps", "0.1"), "--warmup_steps 0.1: a share"),
        (("--sources", "absent.jsonl"), "absent.jsonl"),
        (("--heldout_every", "5"), "heldout_every=5: this recipe has no use for it"),
        (("--rollouts_ahead", "1"), "rollouts_ahead=1: this recipe has no use for it"),
        (("--reward_funcs", "valid"), "reward_funcs=['valid']: this recipe has no use for it"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(
    more: tuple[str, ...], words: str, tmp_path: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, flags(tmp_path, stub.url, "run", *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and not stub.requests
