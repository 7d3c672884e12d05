"""What a step takes: of TRL's plain trainer, of ours, and of ours with `--rollouts_ahead`, with any policy anywhere."""

import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from peft import LoraConfig
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOTrainer

from aflow_ops.executor import ExecutorConfig
from data.registry import load_problems
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.libraries import quiet_libraries
from recipes.training.problems import training_dataset
from recipes.training.trainer import WorkflowGRPOTrainer

# The first ones warm up, and fill the pipeline.
STEPS, WARM_UP = 9, 3


@dataclass(frozen=True)
class Setup:
    """A policy and its batches.

    Args:
        model (`str`, *optional*): folder of the policy; without one, one for this machine's CPU is made.
        batch (`int`): completions of a step.
        generations (`int`): of a problem.
        length (`int`): tokens of a completion.
        settings (`dict`): further values of the trainer's: precision, vLLM, accumulation.
    """

    model: str | None = None
    batch: int = 48
    generations: int = 8
    length: int = 160
    settings: dict[str, Any] = field(default_factory=lambda: {"use_cpu": True, "bf16": False})


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of a step.

    Args:
        whole (`float`): from one step's end to the next one's.
        waited (`float`): in which the trainer only waited for workflows.
    """

    whole: float
    waited: float


def step_times(executor_url: str, workflow: str, *, rollouts_ahead: int, setup: Setup | None = None) -> StepTimes:
    """Train a policy that samples as usual, and of which every completion is then taken for the same workflow.

    Args:
        executor_url (`str`): base URL of an endpoint that takes its time.
        workflow (`str`): what is run; `{}` in it becomes the completion's number.
        rollouts_ahead (`int`): as the flag.
        setup (`Setup`, *optional*): the policy and its batches.
    """
    setup = setup or Setup()
    texts = [workflow.replace("{}", str(index)) for index in range(setup.batch)]
    with _common(setup, texts) as common:
        problems = common.pop("problems")
        recipe = RecipeArguments(prompt_style="brief", workflow_timeout=60, rollouts_ahead=rollouts_ahead)
        executor = ExecutorConfig(executor_base_url=executor_url, executor_cache_dir="none")
        with closing(WorkflowGRPOTrainer(recipe=recipe, executor=executor, problems=problems, **common)) as trainer:
            trainer._generate_single_turn = _then_written(trainer, texts)
            trainer.start_from(None)
            return _times(trainer, lambda: trainer.reward.waited)


def plain_step_times(workflow: str, setup: Setup | None = None) -> StepTimes:
    """Train the same policy with TRL's plain trainer and a reward that costs nothing."""
    setup = setup or Setup()
    texts = [workflow.replace("{}", str(index)) for index in range(setup.batch)]
    with _common(setup, texts) as common:
        dataset = training_dataset(common.pop("problems"), "brief")
        trainer = GRPOTrainer(
            reward_funcs=lambda completions, **_: [float(index % 2) for index in range(len(completions))],
            train_dataset=dataset,
            **common,
        )
        trainer._generate_single_turn = _then_written(trainer, texts)
        return _times(trainer, lambda: 0.0)


def _times(trainer: Any, waited: Callable[[], float]) -> StepTimes:
    ends, steps = [time.monotonic()], []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())
            steps.append(StepTimes(ends[-1] - ends[-2], waited()))

    trainer.add_callback(Clock())
    trainer.train()
    measured = list(itertools.islice(steps, WARM_UP, None))
    return StepTimes(median(step.whole for step in measured), median(step.waited for step in measured))


@contextmanager
def _common(setup: Setup, texts: list[str]) -> Iterator[dict[str, Any]]:
    """What both trainers take, with a folder that goes afterwards, and nothing on standard output."""
    quiet_libraries()
    problems = load_problems("arithmetic", "train", STEPS * setup.batch // setup.generations, 0)
    policy, tokenizer = _policy(setup, [problem.view.text for problem in problems] + texts)
    values = {"per_device_train_batch_size": setup.batch, **setup.settings}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        args = WorkflowGRPOConfig(
            output_dir=folder,
            num_generations=setup.generations,
            max_completion_length=setup.length,
            max_steps=STEPS,
            scale_rewards="batch",
            temperature=1.0,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            **values,
        )
        lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        yield {
            "model": policy, "processing_class": tokenizer, "args": args, "peft_config": lora, "problems": problems
        }  # fmt: skip


def _policy(setup: Setup, texts: list[str]) -> tuple[PreTrainedModel | str, PreTrainedTokenizerBase]:
    if setup.model is not None:
        return setup.model, AutoTokenizer.from_pretrained(setup.model, padding_side="left")
    tokenizer = train_tokenizer(texts, 512)
    return build_tiny_policy(tokenizer, hidden_size=192, num_layers=4, max_length=512, seed=0), tokenizer


def _then_written(trainer: Any, texts: list[str]) -> Callable[..., Any]:
    """Sample, which takes what it takes, and give the texts for what was sampled."""
    sample = trainer._generate_single_turn

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], Any]:
        _, logprobs = sample(prompt_ids, *args, **kwargs)
        tokenizer = trainer.processing_class
        ids = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts[: len(prompt_ids)]]
        return ids, None if logprobs is None else [[0.0] * len(row) for row in ids]

    return generate
