"""What `--rollouts_ahead 1` makes of the time of a step, with a policy on this machine's CPU."""

import io
import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from peft import LoraConfig
from transformers import TrainerCallback

from aflow_ops.executor import ExecutorConfig
from data.registry import load_problems
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.libraries import quiet_libraries
from recipes.training.trainer import WorkflowGRPOTrainer

HIDDEN_SIZE, LAYERS, BATCH, GENERATIONS, LENGTH = 192, 4, 48, 8, 160
# The first ones warm up, and fill the pipeline.
STEPS, WARM_UP = 9, 3


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of a step.

    Args:
        whole (`float`): from one step's end to the next one's.
        waited (`float`): in which the trainer only waited for workflows.
    """

    whole: float
    waited: float


def step_times(executor_url: str, workflow: str, *, rollouts_ahead: int) -> StepTimes:
    """Train a policy that samples as usual, and of which every completion is then taken for the same workflow.

    Args:
        executor_url (`str`): base URL of an endpoint that takes its time.
        workflow (`str`): what is run; `{}` in it becomes the completion's number.
        rollouts_ahead (`int`): as the flag.
    """
    quiet_libraries()
    texts = [workflow.replace("{}", str(index)) for index in range(BATCH)]
    steps: list[StepTimes] = []
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        trainer = _trainer(executor_url, Path(folder), texts, rollouts_ahead)
        trainer._generate_single_turn = _then_written(trainer, texts)  # type: ignore[method-assign]
        ends = [time.monotonic()]

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.monotonic())
                steps.append(StepTimes(ends[-1] - ends[-2], trainer.reward.waited))

        trainer.add_callback(Clock())
        trainer.start_from(None)
        trainer.train()
        trainer.close()
    measured = list(itertools.islice(steps, WARM_UP, None))
    return StepTimes(median(step.whole for step in measured), median(step.waited for step in measured))


def _trainer(url: str, run_dir: Path, texts: list[str], rollouts_ahead: int) -> WorkflowGRPOTrainer:
    problems = load_problems("arithmetic", "train", STEPS * BATCH // GENERATIONS, 0)
    tokenizer = train_tokenizer([problem.view.text for problem in problems] + texts, 512)
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
        recipe=RecipeArguments(prompt_style="brief", workflow_timeout=60, rollouts_ahead=rollouts_ahead),
        executor=ExecutorConfig(executor_base_url=url, executor_cache_dir="none"),
        problems=problems,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )


def _then_written(trainer: WorkflowGRPOTrainer, texts: list[str]) -> Callable[..., Any]:
    """Sample, which takes what it takes, and give the texts for what was sampled."""
    sample = trainer._generate_single_turn

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        sample(prompt_ids, *args, **kwargs)
        tokenizer = trainer.processing_class
        return [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts[: len(prompt_ids)]], None

    return generate
