"""A trainer small enough for tests; as a script, a short run whose completions are given instead of sampled.

accelerate launch --config_file accelerate_configs/cpu_zero2.yaml tests/recipes/tiny_run.py URL RUN_DIR BATCH \
    [REPLAY | --rollouts_ahead | --offline]
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast

from aflow_ops.executor import ExecutorConfig
from data.problem import Problem
from data.registry import load_problems
from recipes.policy.tiny import build_tiny_policy, train_tokenizer, untie_embeddings
from recipes.run.checkpoints import Checkpoint
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.layers import Layers
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.reward_funcs import RewardFunc

K = 4
# Values that come from no file and no flag.
NO_LAYERS = Layers(flags={}, config=Path("made.yaml"), values={}, gpu=None)
ASK = "async def workflow(problem):\n    return (await custom(input=problem))['response']"
# Two groups: one with different rewards, one whose tie WA-GRPO must break over workflows of both processes.
COMPLETIONS = [
    ASK,
    "nonsense",
    'async def workflow(problem):\n    return "5"',
    "Custom -> Format",
    "nonsense",
    "async def workflow(problem):\n    return 1 / 0",
    "async def workflow(problem):\n    await custom(input=problem)\n    return None",
    "[Custom] -> Oracle",
]


def problems(count: int) -> list[Problem]:
    return load_problems("arithmetic", "train", count, 0)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([problem.view.text for problem in problems(20)] + COMPLETIONS, 320)


def make_trainer(
    config: ExecutorConfig,
    run_dir: Path,
    recipe: RecipeArguments | None = None,
    hidden_size: int = 64,
    num_layers: int = 1,
    reward_funcs: Sequence[str | RewardFunc] = ("workflow",),
    start: Checkpoint | None = None,
    num_problems: int = 4,
    modules_to_save: Sequence[str] = (),
    **changes: Any,
) -> WorkflowGRPOTrainer:
    tokenizer = tiny_tokenizer()
    args = WorkflowGRPOConfig(
        **{
            "output_dir": str(run_dir),
            "num_generations": K,
            "per_device_train_batch_size": 2 * K,
            "max_completion_length": 12,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "scale_rewards": "batch",
            "temperature": 1.0,
            "report_to": "none",
            "logging_steps": 1,
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            "save_strategy": "no",
            "activation_checkpointing": False,
            **changes,
        }
    )
    model = build_tiny_policy(tokenizer, hidden_size=hidden_size, num_layers=num_layers, max_length=512, seed=0)
    if modules_to_save:
        untie_embeddings(model)
    return WorkflowGRPOTrainer(
        model=model,
        args=args,
        recipe=recipe or RecipeArguments(prompt_style="brief", workflow_timeout=20),
        executor=config,
        problems=problems(max(num_problems, args.per_device_train_batch_size // args.num_generations)),
        reward_funcs=reward_funcs,
        start=start,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=list(modules_to_save) or None),
    )


def given_completions(trainer: WorkflowGRPOTrainer, texts: Sequence[str]) -> Callable[..., Any]:
    """Stands in for sampling: the policy writes these texts in turn, over all processes."""

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        tokenizer = trainer.processing_class
        first = trainer.accelerator.process_index * len(prompt_ids)
        chosen = [texts[(first + i) % len(texts)] for i in range(len(prompt_ids))]
        return [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in chosen], None

    return generate


def drawn_completions(trainer: WorkflowGRPOTrainer, texts: Sequence[str]) -> Callable[..., Any]:
    """Stands in for sampling: each completion is one of these texts, drawn by torch's own random state."""

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        tokenizer = trainer.processing_class
        chosen = [texts[int(torch.randint(len(texts), ()))] for _ in prompt_ids]
        return [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in chosen], None

    return generate


def train_offline(run_dir: Path, batch: int) -> None:
    """Two steps of GRPO on two groups of given rows, one of them with a row less."""
    from tests.recipes.test_offline_grpo import groups_of, make, rows_of

    groups = groups_of(rows_of(0), rows_of(1)[:3])
    trainer = make(run_dir, groups, per_device_train_batch_size=batch, max_steps=2)
    trainer.train()
    trainer.save_model()


def main() -> None:
    url, run_dir, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4:] == ["--offline"]:
        train_offline(run_dir, batch)
        return
    config = ExecutorConfig(executor_base_url=url, executor_cache_dir="none", executor_temperature=0)
    if sys.argv[4:] == ["--rollouts_ahead"]:
        recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, rollouts_ahead=1)
        more: dict[str, Any] = {"recipe": recipe, "num_problems": 8, "max_steps": 4}
    elif sys.argv[4:]:  # plain steps: what differs between topologies is not blown up by Adam
        recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, replay=sys.argv[4:])
        more = {"recipe": recipe, "max_completion_length": 64, "optim": "sgd", "learning_rate": 1.0}
    else:
        more = {}
    trainer = make_trainer(config, run_dir, per_device_train_batch_size=batch, **more)
    trainer._generate_single_turn = given_completions(trainer, COMPLETIONS)
    trainer.train()
    trainer.save_model()
    trainer.close()


if __name__ == "__main__":
    main()
