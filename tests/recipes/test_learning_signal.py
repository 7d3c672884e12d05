"""The learning signal, end to end: what earns more becomes more likely, in TRL's own trainer.

It fails when an advantage has the wrong sign, when rewards reach other rows than their own, and when a tie-break counts
for more than a tier.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from recipes.run.checkpoints import Checkpoint
from recipes.settings.arguments import RecipeArguments
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.advantages import TIER_STD
from tests.recipes.tiny_run import K, drawn_completions, given_completions, make_trainer, problems
from tests.stub_endpoint import Messages, StubEndpoint

RIGHT, WRONG, INVALID = "Custom", "Custom -> Revise", "nonsense"
STEPS, BATCH = 8, 4 * K


def right_once(messages: Messages) -> str:
    """Answer the calculation, but spoil it when asked to revise."""
    text = messages[-1]["content"]
    answers = {item.question: item.answer for item in problems(BATCH)}
    return next((answer for question, answer in answers.items() if text.strip().endswith(question)), "no idea")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkflowGRPOTrainer, float, float]]:
    """A short seeded run, and how much likelier than the wrong workflow the right one was before and after it."""
    folder = tmp_path_factory.mktemp("signal")
    with pytest.MonkeyPatch.context() as patch, StubEndpoint(right_once) as stub:
        patch.setenv("OPENAI_API_KEY", "sk-test")
        config = ExecutorConfig(
            executor_base_url=stub.url, executor_cache_dir=str(folder / "cache"), executor_temperature=0
        )
        trainer = make_trainer(config, folder / "run", per_device_train_batch_size=BATCH, max_steps=STEPS, seed=3)
        trainer._generate_single_turn = drawn_completions(  # type: ignore[method-assign]
            trainer, [RIGHT, WRONG, INVALID]
        )
        before = preference(trainer)
        trainer.train()
        yield trainer, before, preference(trainer)
        trainer.close()


@torch.no_grad()
def preference(trainer: WorkflowGRPOTrainer) -> float:
    """Mean over the prompts of ln p(right) - ln p(wrong)."""
    tokenizer = trainer.processing_class

    def log_probability(prompt: list[dict[str, str]], text: str) -> float:
        head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
        written = [*tokenizer.encode(text), tokenizer.eos_token_id]
        ids = torch.tensor([[*head["input_ids"], *written]])
        logits = trainer.model(input_ids=ids).logits[0, -len(written) - 1 : -1].log_softmax(-1)
        return float(logits.gather(1, torch.tensor(written)[:, None]).sum())

    prompts = [row["prompt"] for row in trainer.train_dataset]
    return fmean(log_probability(prompt, RIGHT) - log_probability(prompt, WRONG) for prompt in prompts)


def steps(trainer: WorkflowGRPOTrainer) -> list[list[dict[str, Any]]]:
    lines = Path(trainer.run_dir / "rollouts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def test_what_earns_more_becomes_more_likely(trained: tuple[WorkflowGRPOTrainer, float, float]) -> None:
    trainer, before, after = trained
    earned = {
        text: fmean(row["reward"] for step in steps(trainer) for row in step if row["completion"] == text)
        for text in (RIGHT, WRONG, INVALID)
    }
    assert earned[RIGHT] == 1.0 > earned[WRONG] >= earned[INVALID]
    assert after - before > 1.0


def test_every_row_has_the_advantage_of_its_own_reward(trained: tuple[WorkflowGRPOTrainer, float, float]) -> None:
    trainer, _, _ = trained
    for step in steps(trainer):
        deviation = stdev(row["reward"] for row in step)
        for start in range(0, BATCH, K):
            group = step[start : start + K]
            mean = fmean(row["reward"] for row in group)
            for row in group:
                assert (row["reward"] == 1.0) == (row["completion"] == RIGHT)
                if any(other["reward"] != row["reward"] for other in group):
                    assert row["advantage"] == pytest.approx((row["reward"] - mean) / (deviation + 1e-4), abs=1e-4)


def test_a_tie_break_never_counts_for_a_tier(trained: tuple[WorkflowGRPOTrainer, float, float]) -> None:
    trainer, _, _ = trained
    tied = 0
    for step in steps(trainer):
        for start in range(0, BATCH, K):
            group = step[start : start + K]
            if len({row["reward"] for row in group}) == 1:
                advantages = [row["advantage"] for row in group]
                tied += max(advantages) > min(advantages)
                assert max(advantages) - min(advantages) <= 0.12 / TIER_STD + 1e-6 < 0.2 / TIER_STD
    assert tied, "no group of this run was tied: choose another seed"


def test_the_entropy_bonus_reaches_the_advantages_and_falls_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of the same completions: all of the bonus at the first, half of it at the second."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    runs = []
    with StubEndpoint() as stub:
        config = ExecutorConfig(executor_base_url=stub.url, executor_cache_dir="none", executor_temperature=0)
        for coef in (0.0, 0.6):
            recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, shape_entropy_coef=coef)
            trainer = make_trainer(config, tmp_path / str(coef), recipe)
            trainer._generate_single_turn = given_completions(  # type: ignore[method-assign]
                trainer, [RIGHT, RIGHT, RIGHT, WRONG]
            )
            trainer.train()
            trainer.close()
            lines = (tmp_path / str(coef) / "rollouts.jsonl").read_text().splitlines()
            runs.append([json.loads(line) for line in lines])
    common, rare = (0.6 * (math.log(1 / share) - 0.75 * math.log(4 / 3) - 0.25 * math.log(4)) for share in (0.75, 0.25))
    for plain, explored in zip(*runs, strict=True):
        bonus = (rare if plain["completion"] == WRONG else common) * (1 - plain["step"] / 2)
        assert explored["advantage"] - plain["advantage"] == pytest.approx(bonus, abs=1e-4)
    assert {row["step"] for row in runs[0]} == {0, 1}


@pytest.mark.parametrize("name", ["level_weight", "shape_entropy_coef"])
def test_a_weight_of_the_signal_is_no_negative_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=-0.1 must be a number of at least 0"):
        RecipeArguments(**{name: -0.1})


def test_a_checkpoint_of_another_version_is_refused_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with StubEndpoint() as stub:
        trainer = make_trainer(ExecutorConfig(executor_base_url=stub.url, executor_cache_dir="none"), tmp_path / "run")
        written = trainer.run_dir / "rollouts.jsonl"
        written.write_text('{"step": 7}\n')
        state = {"signal": {"levels": {}, "watch": {"math": {"shapes": {"Custom": [1.0, 2]}, "rewards": [0.5]}}}}
        with pytest.raises(UsageError, match="checkpoint-3: was written by another version"):
            trainer.start_from(Checkpoint(tmp_path / "checkpoint-3", 3, state))
        trainer.close()
    assert written.read_text() == '{"step": 7}\n'
