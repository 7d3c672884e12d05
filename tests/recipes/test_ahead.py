"""Rollouts ahead, through the real TRL trainer and the stub endpoint: the same rollouts graded, an exact ratio, an
exact resume, and nothing left when a run ends early."""

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from aflow_ops.errors import BudgetExceededError, FatalExecutorError
from aflow_ops.executor import ExecutorConfig
from recipes.run.checkpoints import read_checkpoint
from recipes.settings.arguments import RecipeArguments
from recipes.training.ahead import Lookahead
from recipes.training.phases import train_policy
from recipes.training.trainer import WorkflowGRPOTrainer
from tests.patience import PATIENCE
from tests.recipes.test_trainer import LAUNCHERS, ROOT, answer_right, rollouts
from tests.recipes.tiny_run import ASK, COMPLETIONS, K, drawn_completions, given_completions, make_trainer
from tests.stub_endpoint import Failure, StubEndpoint

TEXTS = [*COMPLETIONS, ASK.replace("input=problem", "input=problem + ' again'")]


def opened(config: ExecutorConfig, run_dir: Path, ahead: int = 1, **changes: Any) -> WorkflowGRPOTrainer:
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, rollouts_ahead=ahead)
    values = {"num_problems": 12, "max_steps": 5, **changes}
    return make_trainer(config, run_dir, values.pop("recipe", recipe), **values)


def column(trainer: WorkflowGRPOTrainer, name: str) -> list[float]:
    return [log[name] for log in trainer.state.log_history if name in log]


def graded(trainer: WorkflowGRPOTrainer) -> list[dict[str, Any]]:
    rows = rollouts(trainer)
    for row in rows:
        row["trace"] = None  # has wall times
    return rows


@pytest.mark.parametrize("ahead", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_same_rollouts_are_graded_and_credited(
    ahead: int, config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    stub.answer = answer_right
    found = []
    for count in (0, ahead):
        trainer = opened(config, tmp_path / str(count), count)
        trainer._generate_single_turn = given_completions(trainer, COMPLETIONS)  # type: ignore[method-assign]
        train_policy(trainer, None)
        trainer.close()
        found.append(graded(trainer))
    assert found[0] == found[1] and len(found[0]) == 5 * 2 * K
    assert any(row["advantage"] for row in found[0])
    assert column(trainer, "ahead/staleness") == [min(step, ahead) for step in range(5)]


@pytest.mark.long
def test_at_the_end_of_an_epoch_nothing_is_sampled_twice_or_left_out(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    found = []
    for ahead in (0, 1):
        trainer = opened(config, tmp_path / str(ahead), ahead, num_problems=6, max_steps=7)
        trainer._generate_single_turn = given_completions(trainer, COMPLETIONS)  # type: ignore[method-assign]
        train_policy(trainer, None)
        trainer.close()
        found.append(graded(trainer))
    assert found[0] == found[1]
    assert column(trainer, "ahead/staleness") == [0, 1, 1, 0, 1, 1, 0]


def test_workflows_of_the_next_generation_run_while_this_one_is_trained_on(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    asked: list[set[str]] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step < 5:
                wanted, deadline = state.global_step + 1, time.monotonic() + PATIENCE
                while len(questions()) < 2 * wanted and time.monotonic() < deadline:
                    time.sleep(0.01)
            asked.append(questions())

    def questions() -> set[str]:
        return {request["messages"][-1]["content"] for request in list(stub.requests)}

    trainer = opened(config, tmp_path / "run")
    trainer._generate_single_turn = given_completions(trainer, [ASK])  # type: ignore[method-assign]
    trainer.add_callback(Watch())
    train_policy(trainer, None)
    trainer.close()
    assert [len(seen) for seen in asked] == [4, 6, 8, 10, 10]  # two problems a step


def test_the_ratio_is_to_the_log_probabilities_at_sampling_time(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    """The first two generations are written by the untrained policy, which is what is left without its adapter."""
    stub.answer = answer_right
    trainer = opened(
        config, tmp_path / "run", temperature=1.0, temperature_final=0.5, temperature_steps=2, learning_rate=1e-1,
        max_steps=3, num_iterations=2, gradient_accumulation_steps=2,
    )  # fmt: skip
    trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
    compute_loss, checked = trainer._compute_loss, []

    def checking(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if trainer.state.global_step < 2:
            mask = inputs["completion_mask"].bool()
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            with torch.no_grad(), trainer.accelerator.unwrap_model(trainer.model).disable_adapter():
                base, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, attention, mask.size(1))
            with torch.no_grad():
                now, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, attention, mask.size(1))
            old = inputs["old_per_token_logps"]
            assert torch.allclose(old[mask], base[mask], atol=1e-5)
            checked.append((trainer.temperature, bool(torch.allclose(old[mask], now[mask], atol=1e-4))))
        return compute_loss(model, inputs)

    trainer._compute_loss = checking  # type: ignore[method-assign]
    train_policy(trainer, None)
    trainer.close()
    first, second = checked[:2], checked[-2:]
    assert all(same for _, same in first) and not any(same for _, same in second)
    assert {temperature for temperature, _ in checked} == {1.0}  # both were sampled at the schedule's first


def test_a_run_goes_on_with_what_its_checkpoint_has_in_flight(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    stub.answer = answer_right
    adapters, rows = [], []
    for name, resumed in (("whole", False), ("resumed", True)):
        folder = tmp_path / name
        changes = {"save_strategy": "steps", "save_steps": 2, "temperature_final": 0.5, "temperature_steps": 10}
        start = None
        if resumed:
            (tmp_path / "whole" / "checkpoint-2").rename(tmp_path / "checkpoint-2")
            folder.mkdir()
            (tmp_path / "checkpoint-2").rename(folder / "checkpoint-2")
            start = read_checkpoint(folder / "checkpoint-2")
            (in_flight,) = json.loads((start.path / "in_flight-0.json").read_text())
            assert in_flight["step"] == 1 and len(in_flight["sampled"][1]) == 2 * K
            assert not any(key in json.dumps(in_flight) for key in ('"answer"', '"tests"'))
            (folder / "rollouts.jsonl").write_bytes((tmp_path / "whole" / "rollouts.jsonl").read_bytes())
        trainer = opened(config, folder, start=start, **changes)
        trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
        train_policy(trainer, start)
        trainer.save_model()
        trainer.close()
        adapters.append(load_file(folder / "adapter_model.safetensors"))
        rows.append(graded(trainer))
    assert all(torch.equal(value, adapters[1][name]) for name, value in adapters[0].items())
    assert rows[0] == rows[1] and len(rows[0]) == 5 * 2 * K


def test_a_spent_budget_leaves_nothing_running_and_everything_in_the_checkpoint(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    stub.answer = lambda messages: "word " * 500  # $0.0003 a reply
    short = dataclasses.replace(config, executor_budget_usd=0.002)
    trainer = opened(short, tmp_path / "run", max_steps=10, per_device_train_batch_size=K)
    trainer._generate_single_turn = given_completions(trainer, [ASK, "nonsense", "nonsense too", "Custom"])  # type: ignore[method-assign]
    with pytest.raises(BudgetExceededError, match=r"executor_budget_usd.*--resume_from_checkpoint") as caught:
        train_policy(trainer, None)
    assert not running(trainer)
    trainer.close()
    start = read_checkpoint(Path(str(caught.value).rsplit(" ", 1)[1]))
    assert 0 < start.step < 10 and trainer.executor.usage.cost_usd <= 0.002
    again = opened(config, tmp_path / "run", max_steps=10, per_device_train_batch_size=K, start=start)
    again._generate_single_turn = given_completions(again, [ASK, "nonsense", "nonsense too", "Custom"])  # type: ignore[method-assign]
    train_policy(again, start)
    again.close()
    steps = defaultdict(list)
    for row in rollouts(again):
        steps[row["step"]].append(row["question"])
    assert sorted(steps) == list(range(10)) and {len(questions) for questions in steps.values()} == {K}
    assert len({questions[0] for questions in steps.values()}) == 10


@pytest.mark.long
def test_what_is_in_flight_for_other_problems_is_sampled_anew(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = opened(config, tmp_path / "run", max_steps=4, save_strategy="steps", save_steps=2)
    trainer._generate_single_turn = given_completions(trainer, [ASK])  # type: ignore[method-assign]
    train_policy(trainer, None)
    trainer.close()
    start = read_checkpoint(tmp_path / "run" / "checkpoint-2")
    again = opened(config, tmp_path / "other", max_steps=4, seed=7, start=start)
    again._generate_single_turn = given_completions(again, [ASK])  # type: ignore[method-assign]
    train_policy(again, start)
    again.close()
    assert "in flight is of other problems; they are sampled anew" in capsys.readouterr().err
    assert [log["ahead/staleness"] for log in again.state.log_history if "ahead/staleness" in log][-2:] == [0, 1]


@pytest.mark.long
def test_a_fatal_error_keeps_the_generation_that_met_it(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    trainer = opened(config, tmp_path / "run")
    trainer._generate_single_turn = given_completions(trainer, [ASK])  # type: ignore[method-assign]
    stub.answer = lambda messages: Failure(401) if len(stub.requests) > 4 else "42"
    with pytest.raises(FatalExecutorError, match="--resume_from_checkpoint") as caught:
        train_policy(trainer, None)
    assert not running(trainer)
    trainer.close()
    start = read_checkpoint(Path(str(caught.value).rsplit(" ", 1)[1]))
    in_flight = json.loads((start.path / "in_flight-0.json").read_text())
    assert len(in_flight) == 2 and start.step > 0
    stub.answer = lambda messages: "42"
    again = opened(config, tmp_path / "run", start=start)
    again._generate_single_turn = given_completions(again, [ASK])  # type: ignore[method-assign]
    train_policy(again, start)
    again.close()
    assert again.state.global_step == 5


def running(trainer: WorkflowGRPOTrainer) -> list[str]:
    """Workflows that still run on the reward loop."""

    async def names() -> list[str]:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return [str(task.get_coro()) for task in tasks if "score" in str(task.get_coro())]

    return trainer.run_async(names())


def test_what_cannot_be_known_ahead_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rollouts_ahead=1 with replay=\['x.jsonl'\]"):
        RecipeArguments(rollouts_ahead=1, replay=["x.jsonl"])
    with pytest.raises(ValueError, match="rollouts_ahead=-1 must not be negative"):
        RecipeArguments(rollouts_ahead=-1)


def test_looking_ahead_takes_nothing_away() -> None:
    batches = Lookahead(iter("abc"))
    assert [batches.peek(1), next(batches), batches.peek(1), batches.peek(2)] == ["b", "a", "c", None]
    assert [next(batches), next(batches)] == ["b", "c"]
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.long
def test_two_processes_give_the_rewards_and_advantages_of_one(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("tiny_run.py"))
    environment = {**os.environ, "OPENAI_API_KEY": "sk-test", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    rows: dict[str, list[dict[str, Any]]] = {}
    with StubEndpoint(answer_right) as stub:
        for topology in ("one process", "two processes", "ZeRO-2"):
            batch = 2 * K if topology == "one process" else K
            command = [sys.executable, "-m", *LAUNCHERS[topology], script, stub.url, str(tmp_path / topology)]
            done = subprocess.run(
                [*command, str(batch), "--rollouts_ahead"],
                env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{topology}: {done.stderr[-3000:]}"
            text = (tmp_path / topology / "rollouts.jsonl").read_text()
            rows[topology] = [json.loads(line) for line in text.splitlines()]
    expected = rows["one process"]
    assert len(expected) == 4 * 2 * K and any(row["advantage"] for row in expected)
    for topology, found in rows.items():
        for one, other in zip(expected, found, strict=True):
            for key in ("step", "question", "completion", "reward", "adjusted_reward"):
                assert one[key] == other[key], topology
            assert one["advantage"] == pytest.approx(other["advantage"], abs=1e-5), topology
