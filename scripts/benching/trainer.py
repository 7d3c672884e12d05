"""What the recipes' trainer adds to a step of TRL's own, measured side by side."""

import io
import itertools
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import TrainerCallback, set_seed
from trl import GRPOTrainer

from aflow_ops.executor import ExecutorConfig
from data.corpus import load_corpus
from data.registry import load_problems
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.libraries import quiet_libraries
from recipes.training.trainer import WorkflowGRPOTrainer

# The policy's width and depth, the batch and the length of completions are the quickstart's.
HIDDEN_SIZE, LAYERS, BATCH, GENERATIONS, LENGTH = 128, 3, 96, 8, 96
STEPS = 6


def overhead(executor_url: str) -> float:
    """Return by how many percent a step of `WorkflowGRPOTrainer` takes longer than one of TRL's `GRPOTrainer`.

    Both have a reward that is always 0: a random policy writes no workflow, so only what the trainer adds is measured.

    Args:
        executor_url (`str`): base URL of an endpoint that is never asked.
    """
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        config = ExecutorConfig(executor_base_url=executor_url, executor_cache_dir="none")
        ours, donor = (_trainer(config, Path(folder) / name) for name in ("ours", "model"))
        plain = GRPOTrainer(
            model=donor.model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=ours.args,
            train_dataset=ours.train_dataset,
            processing_class=ours.processing_class,
        )
        rounds = [(_median_step(plain), _median_step(ours)) for _ in range(2)]  # in turn: both warm up alike
        donor.close()
        ours.close()
    return (min(second for _, second in rounds) / min(first for first, _ in rounds) - 1) * 100


def _trainer(config: ExecutorConfig, run_dir: Path) -> WorkflowGRPOTrainer:
    problems = load_problems("arithmetic", "train", BATCH // GENERATIONS, 0)
    texts = [problem.view.text for problem in problems] + [item.text for item in load_corpus()]
    tokenizer = train_tokenizer(texts, 1024)
    return WorkflowGRPOTrainer(
        model=build_tiny_policy(tokenizer, hidden_size=HIDDEN_SIZE, num_layers=LAYERS, max_length=512, seed=0),
        args=WorkflowGRPOConfig(
            output_dir=str(run_dir),
            num_generations=GENERATIONS,
            per_device_train_batch_size=BATCH,
            max_completion_length=LENGTH,
            max_steps=STEPS,
            scale_rewards="batch",
            temperature=1.0,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            save_strategy="no",
        ),
        recipe=RecipeArguments(prompt_style="brief", workflow_timeout=20),
        executor=config,
        problems=problems,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )


def _median_step(trainer: Any) -> float:
    """Train and return the median seconds of a step, without the first two."""
    set_seed(0)  # both write the same completions
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())

    trainer.add_callback(Clock())
    trainer.train()
    seconds = [later - earlier for earlier, later in itertools.pairwise(ends)][1:]
    return sorted(seconds)[len(seconds) // 2]
