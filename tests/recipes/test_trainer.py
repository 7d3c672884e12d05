"""The real TRL trainer on a real (random, tiny) Qwen2, against the stub endpoint."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aflow_ops.errors import BudgetExceededError, InfraError, UsageError
from aflow_ops.executor import ExecutorConfig
from data.registry import load_problems
from recipes.settings.arguments import RecipeArguments
from recipes.training.phases import train_policy
from recipes.training.problems import training_dataset
from recipes.training.trainer import WorkflowGRPOTrainer
from recipes.training.trl_internals import scoring_temperature
from rewards.workflow_reward import completion_text
from tests.patience import PATIENCE
from tests.recipes.tiny_run import ASK, COMPLETIONS, K, given_completions, make_trainer
from tests.stub_endpoint import Failure, Messages, StubEndpoint

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "accelerate_configs"
LAUNCHERS = {
    "one process": ["accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu.yaml")],
    "two processes": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "ZeRO-2": ["accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu_zero2.yaml")],
    "ZeRO-3": ["accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu_zero3.yaml")],
}
TIED = ["nonsense", "nonsense too", "async def workflow(problem):\n    return 1 / 0", "Custom -> Format"]


@pytest.fixture
def trainer(config: ExecutorConfig, tmp_path: Path) -> Iterator[WorkflowGRPOTrainer]:
    opened = make_trainer(config, tmp_path / "run")
    yield opened
    opened.close()


def write_completions(trainer: WorkflowGRPOTrainer, texts: list[str]) -> None:
    trainer._generate_single_turn = given_completions(trainer, texts)  # type: ignore[method-assign]


def rollouts(trainer: WorkflowGRPOTrainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trainer.run_dir / "rollouts.jsonl").read_text().splitlines()]


def test_training_moves_the_adapter_and_logs_every_stage(trainer: WorkflowGRPOTrainer, stub: StubEndpoint) -> None:
    write_completions(trainer, COMPLETIONS)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    moved = [
        name for name, p in trainer.model.named_parameters() if name in before and not torch.equal(p, before[name])
    ]
    assert all("lora" in name for name in before)
    logged = set().union(*trainer.state.log_history)
    for name in ("valid", "executed", "operators", "infra_error"):
        assert f"workflow/{name}" in logged
    for name in ("reward/tier_1", "reward/tier_5", "executor/tokens", "executor/cost_usd"):
        assert name in logged
    assert {"wa_grpo/zero_signal_before", "wa_grpo/zero_signal_after"} <= logged
    assert len(rollouts(trainer)) == 2 * 2 * K
    paid = [log["executor/run_cost_usd"] for log in trainer.state.log_history if "reward" in log]
    assert 0 < paid[0] < paid[1] == trainer.executor.usage.cost_usd
    assert moved


def test_an_output_layer_beside_the_adapter_is_trained_and_kept(config: ExecutorConfig, tmp_path: Path) -> None:
    """The quickstart's way (`lora_modules_to_save: [lm_head]`); TRL refuses a LoRA adapter of the output layer."""
    trainer = make_trainer(config, tmp_path / "run", modules_to_save=["lm_head"])
    head = trainer.model.get_output_embeddings().modules_to_save["default"].weight  # type: ignore[union-attr]
    before = head.detach().clone()
    write_completions(trainer, [ASK, "nonsense", "Custom -> Format", "more nonsense"])
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    trainer.close()
    moved = (head - before).abs().amax(dim=1) > 0
    written = {token for row in rollouts(trainer) for token in trainer.processing_class.encode(row["completion"])}
    assert moved[sorted(written)].all(), "each token of a completion with an advantage has a row of its own"
    kept = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert torch.equal(kept["base_model.model.lm_head.weight"], head.detach())


def test_the_workflow_that_is_credited_is_the_one_that_was_written(trainer: WorkflowGRPOTrainer) -> None:
    """The completion in the record is what the reward parsed, under the prompt that the policy saw."""
    write_completions(trainer, [ASK, "nonsense", "Custom -> Format", "more nonsense"])
    trainer.train()
    for row in rollouts(trainer):
        assert row["prompt"][-1]["content"] == row["question"]
        assert (row["workflow"] or "") in row["completion"]
        assert row["reward"] == (row["grade"] or {}).get("reward")
    groups = [rollouts(trainer)[i : i + K] for i in range(0, 4 * K, K)]
    assert all(len({row["question"] for row in group}) == 1 for group in groups)


def test_a_group_with_equal_rewards_still_has_a_signal(trainer: WorkflowGRPOTrainer, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "no number"
    write_completions(trainer, TIED)
    trainer.train()
    rows = rollouts(trainer)
    assert {row["reward"] for row in rows} == {0.0}
    by_text = {row["completion"]: row["advantage"] for row in rows}
    assert by_text["Custom -> Format"] > 0 > by_text["nonsense"]
    log = trainer.state.log_history[0]
    assert log["wa_grpo/zero_signal_before"] == 1.0
    assert log["wa_grpo/zero_signal_after"] == 0.0


def test_without_wa_grpo_such_a_group_has_none(config: ExecutorConfig, tmp_path: Path, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "no number"
    recipe = RecipeArguments(prompt_style="brief", wa_grpo=False)
    trainer = make_trainer(config, tmp_path / "run", recipe, max_steps=1)
    write_completions(trainer, TIED)
    trainer.train()
    trainer.close()
    assert {row["reward"] for row in rollouts(trainer)} == {0.0}
    assert {row["advantage"] for row in rollouts(trainer)} == {0.0}


def test_every_reward_counts_with_its_weight_and_only_the_workflows_ties_are_broken(
    config: ExecutorConfig, tmp_path: Path, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: "no number"
    marks = dict(zip(TIED, [4.0, None, 2.0, 0.0], strict=True))

    def mark(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [marks[completion_text(completion)] for completion in completions]

    async def always(completions: list[Any], **kwargs: Any) -> list[float]:
        return [0.5] * len(completions)

    found: dict[bool, dict[str, float]] = {}
    for wa_grpo in (True, False):
        trainer = make_trainer(
            config,
            tmp_path / str(wa_grpo),
            RecipeArguments(prompt_style="brief", wa_grpo=wa_grpo),
            reward_funcs=[mark, "workflow", always],
            max_steps=1,
            reward_weights=[0.5, 1.0, 3.0],
            scale_rewards="none",
        )
        write_completions(trainer, TIED)
        trainer.train()
        trainer.close()
        rows = rollouts(trainer)
        assert [row["reward"] for row in rows] == [0.0] * len(rows)
        assert [row["rewards"] for row in rows[:K]] == [
            {"mark": marks[text], "workflow": 0.0, "always": 0.5} for text in TIED
        ]
        found[wa_grpo] = {row["completion"]: row["advantage"] for row in rows}
        (log,) = (log for log in trainer.state.log_history if "reward" in log)
        assert log["rewards/mark/mean"] == pytest.approx(2.0)
        assert log["rewards/always/mean"] == 0.5 and log["rewards/workflow/mean"] == 0.0
        assert log["reward"] == pytest.approx(0.5 * 2.0 + 3.0 * 0.5)
        assert log["wa_grpo/zero_signal_before"] == 1.0
    assert found[False] == pytest.approx(dict(zip(TIED, [1.0, 0.0, 0.0, -1.0], strict=True)), abs=1e-5)
    bonus = {text: found[True][text] - found[False][text] for text in TIED}
    assert bonus["Custom -> Format"] > 0 > bonus["nonsense"]
    assert sum(bonus.values()) == pytest.approx(0, abs=1e-5)


def test_what_the_workflow_reward_cannot_grade_leaves_its_group_whatever_others_say(
    config: ExecutorConfig, tmp_path: Path, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: Failure(500, headers={"Retry-After": "0"})

    def praise(completions: list[Any], **kwargs: Any) -> list[float]:
        return [9.0 if completion_text(completion) == ASK else 1.0 for completion in completions]

    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20)
    trainer = make_trainer(config, tmp_path / "run", recipe, reward_funcs=["workflow", praise], max_steps=1)
    write_completions(trainer, [ASK, "nonsense", ASK, "nonsense"])
    trainer.train()
    trainer.close()
    assert {(row["rewards"]["praise"], row["advantage"]) for row in rollouts(trainer)} == {(9.0, 0.0), (1.0, 0.0)}


def test_an_infinite_reward_is_refused_by_name(config: ExecutorConfig, tmp_path: Path) -> None:
    def endless(completions: list[Any], **kwargs: Any) -> list[float]:
        return [math.inf] * len(completions)

    trainer = make_trainer(config, tmp_path / "run", reward_funcs=["workflow", endless])
    write_completions(trainer, ["nonsense"])
    with pytest.raises(ValueError, match="'endless' returned an infinite number"):
        trainer.train()
    trainer.close()


def test_groups_of_two_do_not_get_advantages_of_exactly_one(
    config: ExecutorConfig, tmp_path: Path, stub: StubEndpoint
) -> None:
    trainer = make_trainer(config, tmp_path / "run", num_generations=2, max_steps=1)
    hard_coded = 'async def workflow(problem):\n    return "5"'
    stub.answer = answer_right
    write_completions(trainer, [ASK, "nonsense", "nonsense", hard_coded])
    trainer.train()
    trainer.close()
    advantages = [row["advantage"] for row in rollouts(trainer)]
    assert any(advantages)
    assert not all(math.isclose(abs(a), 1.0, rel_tol=1e-2) for a in advantages)


def answer_right(messages: Messages) -> str:
    question = messages[-1]["content"].strip()
    answers = {item.question: item.answer for item in load_problems("arithmetic", "train", 4, 0)}
    return answers.get(question, "no number")


def test_an_outage_teaches_nothing(trainer: WorkflowGRPOTrainer, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(500, headers={"Retry-After": "0"})
    write_completions(trainer, [ASK, "nonsense", ASK, "nonsense"])
    trainer.train()
    rows = rollouts(trainer)
    assert {row["advantage"] for row in rows if row["completion"] == ASK} == {0.0}
    assert all(row["reward"] is None for row in rows if row["completion"] == ASK)


def test_the_temperature_falls_linearly_and_is_sampled_with(config: ExecutorConfig, tmp_path: Path) -> None:
    trainer = make_trainer(config, tmp_path / "run", temperature=0.5, temperature_final=0.15, temperature_steps=150)
    for step, temperature in {0: 0.5, 75: 0.325, 150: 0.15, 400: 0.15}.items():
        trainer.state.global_step = step
        assert trainer.current_temperature() == pytest.approx(temperature)
    trainer.train()
    second_step = pytest.approx(0.5 - 0.35 / 150)
    assert trainer.generation_config.temperature == second_step
    assert scoring_temperature(trainer.accelerator.unwrap_model(trainer.model)).cell_contents == second_step
    trainer.close()


def test_the_policys_prompt_holds_no_gold_answer_and_no_hidden_test() -> None:
    for source in ("arithmetic", "invented_facts", "small_functions", "humaneval"):
        items = load_problems(source, "train", 5, 0)
        for row, item in zip(training_dataset(items, "full"), items, strict=True):
            text = json.dumps(row["prompt"])
            assert not any(test in text for test in item.tests)
            if item.domain == "code":
                assert item.answer not in text


@pytest.mark.long
def test_every_topology_gives_the_rewards_and_advantages_of_one_process(tmp_path: Path) -> None:
    """Two processes, plain or with DeepSpeed ZeRO-2 and ZeRO-3, against one process, on the same completions."""
    script = str(Path(__file__).with_name("tiny_run.py"))
    environment = {**os.environ, "OPENAI_API_KEY": "sk-test", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    rows: dict[str, list[dict[str, Any]]] = {}
    with StubEndpoint(answer_right) as stub:
        for topology, launcher in LAUNCHERS.items():
            batch = 2 * K if topology == "one process" else K
            folder = tmp_path / topology
            command = [sys.executable, "-m", *launcher, script, stub.url, str(folder), str(batch)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
            )
            assert done.returncode == 0, f"{topology}: {done.stderr[-3000:]}"
            assert (folder / "adapter_model.safetensors").is_file()
            rows[topology] = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    expected = rows["one process"]
    assert len(expected) == 2 * 2 * K
    for topology, found in rows.items():
        for one, other in zip(expected, found, strict=True):
            for key in ("step", "question", "completion", "reward", "adjusted_reward"):
                assert one[key] == other[key], topology
            assert one["advantage"] == pytest.approx(other["advantage"], abs=1e-5), topology
    assert any(row["advantage"] for row in expected)
    assert any(row["adjusted_reward"] != row["reward"] for row in expected)
    assert len({row["completion"] for row in expected}) == len(set(COMPLETIONS))


@pytest.mark.parametrize("ahead", [0, pytest.param(1, marks=pytest.mark.long)])
def test_an_outage_that_goes_on_stops_the_run_with_a_checkpoint(
    config: ExecutorConfig, tmp_path: Path, stub: StubEndpoint, ahead: int
) -> None:
    stub.answer = lambda messages: Failure(500, headers={"Retry-After": "0"})
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, max_outage_steps=2, rollouts_ahead=ahead)
    trainer = make_trainer(config, tmp_path / "run", recipe, max_steps=10)
    write_completions(trainer, [ASK])
    with pytest.raises(InfraError, match=r"last 2 steps.*--resume_from_checkpoint") as caught:
        train_policy(trainer, None)
    trainer.close()
    assert trainer.state.global_step == 2
    assert (Path(str(caught.value).rsplit(" ", 1)[1]) / "trainer_state.json").is_file()


def test_a_spent_budget_stops_the_run_with_a_checkpoint(
    config: ExecutorConfig, tmp_path: Path, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: "word " * 500  # $0.0003 a reply
    config = dataclasses.replace(config, executor_budget_usd=0.002)
    trainer = make_trainer(config, tmp_path / "run", per_device_train_batch_size=K, max_steps=10)
    write_completions(trainer, [ASK, "nonsense", "nonsense too", "Custom"])
    with pytest.raises(BudgetExceededError, match=r"executor_budget_usd.*--resume_from_checkpoint") as caught:
        train_policy(trainer, None)
    trainer.close()
    checkpoint = Path(str(caught.value).rsplit(" ", 1)[1])
    assert 0 < trainer.state.global_step < 10
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert (checkpoint / "optimizer.pt").is_file()
    assert trainer.executor.usage.cost_usd <= 0.002


def test_too_few_problems_for_a_generation_are_refused(config: ExecutorConfig, tmp_path: Path) -> None:
    """TRL would end at once, with a policy that learned nothing."""
    with pytest.raises(UsageError, match="num_train_problems=4: a generation takes 8"):
        make_trainer(config, tmp_path / "run", gradient_accumulation_steps=4)


def test_decoys_are_drawn_from_the_runs_seed(config: ExecutorConfig, tmp_path: Path) -> None:
    trainer = make_trainer(config, tmp_path / "run", seed=7)
    try:
        assert trainer.scorer.provenance.seed == "7"
    finally:
        trainer.close()
