"""A run that is killed, again and again, and resumed ends as if nothing had happened."""

import csv
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from aflow_ops.errors import InfraError, UsageError
from aflow_ops.executor import ExecutorConfig, ExecutorUsage
from recipes.policy.loading import trained_prompt_style, trained_sources
from recipes.run.checkpoints import Checkpoint, best_of, checkpoint_to_resume, latest_checkpoint, read_checkpoint
from recipes.run.config import write_config
from recipes.run.progress import MetricsFile
from recipes.run.rollout_log import open_part, rollout_files
from recipes.run.spending import Spending
from recipes.settings.arguments import RecipeArguments
from recipes.training.best import BestByHeldout
from recipes.training.collapse import Collapse, CollapseWatch
from recipes.training.phases import roll_back, train_policy
from recipes.training.sampling import EpochSampler
from tests.patience import PATIENCE
from tests.recipes.tiny_run import ASK, COMPLETIONS, drawn_completions, make_trainer
from tests.stub_endpoint import Messages, StubEndpoint

# 20 by hand, for the record: AFLOW_RECIPES_KILLS=20 pytest tests/recipes/test_resume.py
KILLS = int(os.environ.get("AFLOW_RECIPES_KILLS", "4"))
STEPS = 6 + 2 * KILLS  # a checkpoint for every kill
TEXTS = [*COMPLETIONS, ASK.replace("input=problem", "input=problem + ' again'")]


def answer(messages: Messages) -> str:
    """Sometimes right, and the same for the same question."""
    return str(sum(messages[-1]["content"].encode()) % 50)


def train(url: str, folder: Path, name: str, rollouts_ahead: int = 0) -> None:
    """A whole start of a run, in a process of its own."""
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    os.environ["OPENAI_API_KEY"] = "sk-test"
    config = ExecutorConfig(executor_base_url=url, executor_cache_dir=str(folder / "cache"), executor_temperature=0)
    start = checkpoint_to_resume("auto", folder / name)
    parts = {"rollouts_part_mb": 0.02} if name == "killed" else {}  # two or three steps
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, rollouts_ahead=rollouts_ahead, **parts)
    trainer = make_trainer(
        config, folder / name, recipe, max_steps=STEPS, save_strategy="steps", save_steps=2, save_total_limit=2,
        per_device_train_batch_size=8, start=start,
        temperature_final=0.5, temperature_steps=10, gradient_accumulation_steps=2, num_iterations=2,
        num_problems=8 if rollouts_ahead else 4,
    )  # fmt: skip
    trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
    trainer.add_callback(MetricsFile(folder / name / "metrics.csv"))
    try:
        train_policy(trainer, start)
        trainer.save_model()
    finally:
        trainer.close()


def process(*arguments: Any, target: Callable[..., None] = train) -> Any:
    """Start a function in a process that has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.recipes.test_resume"])
    started = context.Process(target=target, args=arguments)
    started.start()
    return started


def rollouts(run: Path) -> list[dict[str, Any]]:
    rows = []
    for path in rollout_files(run / "rollouts.jsonl"):
        with open_part(path) as file:
            rows += [json.loads(line) for line in file]
    for row in rows:
        row["trace"] = None  # has wall times
    return rows


def log(folder: Path) -> str:
    return (folder / "log").read_text()[-3000:]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rollouts_ahead", [0, 1])
def test_a_run_killed_at_any_moment_gives_the_same_adapter_and_rewards(rollouts_ahead: int, tmp_path: Path) -> None:
    with StubEndpoint(answer, latency=0.02) as stub:
        whole = process(stub.url, tmp_path, "whole", rollouts_ahead)
        whole.join(120)
        assert whole.exitcode == 0, log(tmp_path)
        dice, kills, saw = random.Random(7), 0, set()
        while kills < KILLS:
            killed = process(stub.url, tmp_path, "killed", rollouts_ahead)
            steps_before = latest_checkpoint(tmp_path / "killed", quiet=True)
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and killed.is_alive():
                now = latest_checkpoint(tmp_path / "killed", quiet=True)
                if now is not None and (steps_before is None or now.step > steps_before.step):
                    break
                time.sleep(0.02)
            time.sleep(dice.uniform(0, 0.5))
            if not killed.is_alive():
                break  # it was through before the last kill
            killed.kill()
            killed.join(30)
            kills += 1
            saw.add(now.step if now else 0)
        last = process(stub.url, tmp_path, "killed", rollouts_ahead)
        last.join(120)
        assert last.exitcode == 0, log(tmp_path)
    assert kills >= min(KILLS, 3)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(value.abs().sum() > 0 for name, value in one.items() if "lora_B" in name)
    assert rollouts(tmp_path / "whole") == rollouts(tmp_path / "killed")
    assert len(rollout_files(tmp_path / "whole" / "rollouts.jsonl")) == 1
    *parts, live = rollout_files(tmp_path / "killed" / "rollouts.jsonl")
    assert len(parts) > 2 and all(part.suffix == ".gz" for part in parts) and live.name == "rollouts.jsonl"
    tables = []
    for name in ("whole", "killed"):
        with (tmp_path / name / "metrics.csv").open() as file:
            rows = [
                {key: row[key] for key in ("step", "reward", "loss", "learning_rate")} for row in csv.DictReader(file)
            ]
        tables.append(rows)
    assert tables[0] == tables[1]
    spent = [json.loads((tmp_path / name / ".spent-0.json").read_text()) for name in ("whole", "killed")]
    assert spent[1]["cost_usd"] <= spent[0]["cost_usd"] + 1e-12  # the first run filled the cache


@pytest.fixture
def finished(config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path) -> Path:
    """A short run with checkpoints 2 and 4."""
    trainer = make_trainer(config, tmp_path / "run", max_steps=4, save_strategy="steps", save_steps=2)
    trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
    train_policy(trainer, None)
    trainer.close()
    return tmp_path / "run"


def test_a_run_that_was_through_is_not_trained_on(config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        start = latest_checkpoint(tmp_path / "run")
        trainer = make_trainer(
            config, tmp_path / "run", max_steps=3, per_device_train_batch_size=8, save_strategy="steps", save_steps=3,
            start=start,
        )  # fmt: skip
        trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
        train_policy(trainer, start)
        trainer.save_model()
        trainer.close()
        found.append((trainer.state.global_step, rollouts(tmp_path / "run")))
        found[-1] += ((tmp_path / "run" / "adapter_model.safetensors").read_bytes(),)
    assert trainer.state.epoch % 1 != 0  # transformers would train another step only inside an epoch
    assert found[0] == found[1] and found[0][0] == 3


def test_a_damaged_checkpoint_is_passed_over(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = finished / "checkpoint-4"
    assert checkpoint_to_resume("auto", finished) == read_checkpoint(newest)
    optimizer = newest / "optimizer.pt"
    content = optimizer.read_bytes()
    optimizer.write_bytes(content[:-100])
    chosen = checkpoint_to_resume("auto", finished)
    assert chosen is not None and chosen.step == 2
    assert "optimizer.pt has" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"checkpoint-4 is not whole: optimizer\.pt.*use .*checkpoint-2"):
        checkpoint_to_resume(str(newest), finished)
    optimizer.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (latest_checkpoint(finished) or newest) == read_checkpoint(finished / "checkpoint-2")
    (finished / "checkpoint-2" / "complete.json").unlink()
    assert checkpoint_to_resume("auto", finished) == read_checkpoint(finished / "checkpoint-0")
    with pytest.raises(UsageError, match="no such folder"):
        checkpoint_to_resume(str(finished / "checkpoint-9"), finished)


@pytest.mark.long
def test_a_full_disk_costs_the_checkpoint_not_the_run(tmp_path: Path) -> None:
    with StubEndpoint(answer) as stub:
        state = tmp_path / "run" / "checkpoint-2" / "optimizer.pt"
        state.parent.mkdir(parents=True)
        state.symlink_to("/dev/full")
        full = process(stub.url, tmp_path, "run")
        full.join(120)
        assert full.exitcode == 1
        assert "checkpoint-2 could not be written" in log(tmp_path)
        assert "--resume_from_checkpoint auto" in log(tmp_path)
        chosen = latest_checkpoint(tmp_path / "run", quiet=True)
        assert chosen is not None and chosen.step == 0
        state.unlink()
        again = process(stub.url, tmp_path, "run")
        again.join(120)
        assert again.exitcode == 0, log(tmp_path)


@pytest.mark.parametrize("numbers", [0, 3, 1_000_000])
def test_only_what_the_disk_refused_is_told_as_such(
    numbers: int, config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's writers fail in a way of their own for small and for large files."""
    trainer = make_trainer(config, tmp_path / "run")
    monkeypatch.setattr(GRPOTrainer, "_save_checkpoint", lambda *_: torch.save(torch.zeros(numbers), "/dev/full"))
    with pytest.raises(InfraError, match=r"checkpoint-0 could not be written: .*free some space"):
        trainer.save_checkpoint()

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(GRPOTrainer, "_save_checkpoint", broken)
    with pytest.raises(RuntimeError, match=r"^CUDA error: an illegal"):
        trainer.save_checkpoint()
    trainer.close()


def test_an_epoch_has_its_own_order_whatever_was_sampled_before() -> None:
    def sampler(epoch: int, seed: int = 3) -> EpochSampler:
        of_trl = RepeatSampler(range(10), mini_repeat_count=2, batch_size=5, shuffle=True, seed=seed)
        return EpochSampler(of_trl, lambda: epoch, [""] * 10)

    orders = [tuple(sampler(epoch)) for epoch in range(3)]
    assert len(set(orders)) == 3
    twice = sampler(2)
    assert tuple(twice) == tuple(twice) == orders[2] != tuple(sampler(2, seed=4))
    assert len(twice) == 20 and sorted(twice) == sorted([*range(10), *range(10)])


def test_every_step_has_each_domain_in_its_share() -> None:
    kinds = ["math", "qa", "code"] * 4
    rows = list(EpochSampler(RepeatSampler(kinds, 2, batch_size=3, shuffle=True, seed=1), lambda: 5, kinds))
    assert rows != sorted(rows)
    for start in range(0, len(rows), 6):
        assert [kinds[row] for row in rows[start : start + 6 : 2]] == ["math", "qa", "code"]


def test_what_was_spent_survives(tmp_path: Path) -> None:
    record = tmp_path / "spent.json"
    for turn in range(3):
        spending = Spending(record, fresh=False)
        assert spending.usage.calls == turn
        spending.add("key", ExecutorUsage(1, 0, 10, 5, 0.25))
        spending.close()
    assert Spending(record, fresh=False).usage == ExecutorUsage(3, 0, 30, 15, 0.75)
    assert Spending(record, fresh=True).usage == ExecutorUsage()


def test_a_checkpoint_of_the_adapter_alone_is_not_gone_on_from(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    for folder, only_model in (("whole", False), ("adapter", True)):
        settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "save_only_model": only_model}
        trainer = make_trainer(config, tmp_path / folder, **settings)
        trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
        train_policy(trainer, None)
        trainer.close()
    for asked in ("auto", str(tmp_path / "adapter" / "checkpoint-1")):
        with pytest.raises(UsageError, match=r"checkpoint-1 was saved with --save_only_model"):
            checkpoint_to_resume(asked, tmp_path / "adapter")
    start = checkpoint_to_resume("auto", tmp_path / "whole")
    assert start is not None and start.resumable
    again = make_trainer(config, tmp_path / "adapter", max_steps=2)
    again.watch = CollapseWatch(patience=1)
    collapse = Collapse(since_step=2, now=0.0, level=0.8)
    with pytest.raises(InfraError, match="holds the adapter only"):
        roll_back(again, collapse, last=False)
    again.close()


# The best adapter


def test_the_best_adapter_on_held_out_problems_is_kept(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    write_config(tmp_path / "run", "recipes/grpo_mixed.py", {"prompt_style": "brief", "sources": ["arithmetic"]})
    trainer = make_trainer(config, tmp_path / "run", max_steps=8, save_strategy="steps", save_steps=4)
    trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
    rewards = {2: 0.2, 4: 0.9, 6: 0.5, 8: None}
    weights: dict[int, Any] = {}

    def evaluate(*_: Any, **__: Any) -> list[dict[str, Any]]:
        step = trainer.state.global_step
        weights[step] = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_B" in name}
        return [{"source": "made", "id": "1", "reward": rewards[step]}]

    trainer.add_callback(BestByHeldout(trainer, 2, [], evaluate))
    train_policy(trainer, None)
    trainer.close()
    assert list(weights) == [2, 4, 6, 8]
    assert best_of(tmp_path / "run") == {"step": 4, "reward": 0.9}
    kept = load_file(tmp_path / "run" / "best" / "adapter_model.safetensors")
    for name, value in kept.items():
        if "lora_B" in name:
            assert torch.equal(value, weights[4][name.replace(".weight", ".default.weight")])
    for folder in ("best", "checkpoint-4"):  # each knows how it is to be used
        place = str(tmp_path / "run" / folder)
        assert (trained_prompt_style(place), trained_sources(place)) == ("brief", ["arithmetic"])
    assert read_checkpoint(tmp_path / "run" / "checkpoint-4").step == 4
    assert "config.yaml" in json.loads((tmp_path / "run" / "checkpoint-4" / "complete.json").read_text())["files"]
    assert not (tmp_path / "run" / "best.partial").exists()
    (tmp_path / "run" / "best").rename(tmp_path / "run" / "best.old")  # as a kill between two moves leaves it
    trainer.start = Checkpoint(tmp_path / "run" / "checkpoint-4", 4, {})
    BestByHeldout(trainer, 2, [])
    assert best_of(tmp_path / "run") == {"step": 4, "reward": 0.9}
    logged = [log["heldout/reward"] for log in trainer.state.log_history if "heldout/reward" in log]
    assert logged == [0.2, 0.9, 0.5]
    steps = [log for log in trainer.state.log_history if "loss" in log]
    assert all({"reward", "policy/entropy"} <= log.keys() for log in steps)  # a held-out row takes none of them


# Collapse


def test_a_collapse_is_half_of_the_level_for_long_enough() -> None:
    watch = CollapseWatch(patience=3)
    for step in range(10):
        assert watch.seen(step, 0.8) is None
    assert watch.seen(10, 0.3) is None
    assert watch.seen(11, 0.7) is None  # came back
    assert [watch.seen(step, 0.3) for step in (12, 13)] == [None, None]
    collapse = watch.seen(14, 0.1)
    assert collapse is not None
    assert (collapse.since_step, collapse.level, collapse.now) == (11, pytest.approx(0.8), 0.1)


def test_a_collapse_began_with_the_policy_that_wrote_the_first_of_it() -> None:
    """A generation may be used for two steps, or be seen a step after it was written."""
    for steps in ((2, 4, 6, 8), (3, 3, 6, 8)):
        watch = CollapseWatch(patience=2)
        found = [watch.seen(step, share) for step, share in zip(steps, (0.8, 0.8, 0.1, 0.0), strict=True)]
        assert found[:3] == [None] * 3 and found[3] is not None and found[3].since_step == 5


def test_a_collapse_in_the_first_steps_is_seen_too() -> None:
    watch = CollapseWatch(patience=3)
    assert [watch.seen(step, share) for step, share in enumerate((0.75, 0.7, 0.0, 0.0))] == [None] * 4
    assert watch.seen(4, 0.1) is not None


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), max_size=30), st.integers(0, 30))
def test_a_watch_goes_on_from_a_checkpoint_as_if_nothing_had_happened(shares: list[float], stop: int) -> None:
    watch, resumed = CollapseWatch(patience=2), CollapseWatch(patience=2)
    for step, share in enumerate(shares[:stop]):
        watch.seen(step, share)
    resumed.load_state_dict(json.loads(json.dumps(watch.state_dict())))
    for step, share in enumerate(shares[stop:], start=stop):
        assert resumed.seen(step, share) == watch.seen(step, share)


@given(st.lists(st.floats(0.45, 0.8), min_size=1, max_size=60))
def test_ups_and_downs_are_no_collapse(shares: list[float]) -> None:
    watch = CollapseWatch(patience=1)
    assert [watch.seen(step, share) for step, share in enumerate(shares)] == [None] * len(shares)


def test_a_policy_that_never_wrote_anything_valid_does_not_collapse() -> None:
    watch = CollapseWatch(patience=2)
    assert [watch.seen(step, 0.0) for step in range(30)] == [None] * 30
    assert [CollapseWatch(0).seen(step, float(step < 9)) for step in range(30)] == [None] * 30


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_collapse_is_rolled_back_behind_the_policy_that_wrote_it_with_a_lower_learning_rate(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], ahead: int
) -> None:
    """The sixth step breaks the policy: its checkpoint is not gone back to, however late its workflows were seen."""
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, collapse_patience=2, rollouts_ahead=ahead)
    trainer = make_trainer(
        config, tmp_path / "run", recipe, max_steps=9, save_strategy="steps", save_steps=3, learning_rate=1e-2,
        lr_scheduler_type="constant", num_problems=24,
    )  # fmt: skip

    def collapsing(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        broken = trainer.state.global_step >= 6 and (trainer.start is None or trainer.start.step >= 6)
        return drawn_completions(trainer, ["nonsense"] if broken else [ASK, "Custom -> Format"])(prompt_ids)

    trainer._generate_single_turn = collapsing  # type: ignore[method-assign]
    train_policy(trainer, None)
    trainer.close()
    said = capsys.readouterr().err
    assert "back to step 3 with learning rate 0.001" in said and said.count("back to step") == 1
    assert trainer.state.global_step == 9
    rates = {log["step"]: log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log}
    assert rates[3] == pytest.approx(1e-2) and rates[9] == pytest.approx(1e-3)
    assert read_checkpoint(tmp_path / "run" / "checkpoint-9").state["lr_scale"] == pytest.approx(0.1)


def test_a_policy_that_keeps_collapsing_ends_the_run(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, collapse_patience=2)
    trainer = make_trainer(config, tmp_path / "run", recipe, max_steps=30, save_strategy="no")

    def collapsing(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        texts = [ASK, "Custom -> Format"] if trainer.state.global_step < 6 else ["nonsense"]
        return drawn_completions(trainer, texts)(prompt_ids)

    trainer._generate_single_turn = collapsing  # type: ignore[method-assign]
    with pytest.raises(InfraError, match=r"collapse: 0% of the workflows are valid.*checkpoint-0.*learning rate"):
        train_policy(trainer, None)
    trainer.close()
