"""One experiment: policy, baselines, training, evaluation before and after, and the files that it leaves.

A recipe names its trainer class and its YAML; everything here is shared by all of them, in the order in which it runs.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import AutoTokenizer
from trl import get_peft_config, get_quantization_config

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorUsage, check_executor
from data.files import claimed
from data.problem import Problem
from recipes.backup.backup import Backup
from recipes.backup.open import open_backup
from recipes.hub.publish import publish_finished_run, requested_publication
from recipes.policy.warm_start import ensure_policy
from recipes.run.checkpoints import Checkpoint, drop_checkpoints_after
from recipes.run.config import effective_config, write_config
from recipes.run.progress import MetricsFile, progress_of, quiet_libraries
from recipes.run.results import HeldOut, print_results, write_results
from recipes.run.rollout_log import RolloutLog
from recipes.run.starting import print_resumption, starting_point
from recipes.settings.checks import check_domains, check_requirements
from recipes.settings.effective import print_effective_values
from recipes.settings.parse import Arguments, parse_arguments
from recipes.training.best import BestByHeldout
from recipes.training.curriculum import EasiestFirst, queue_of
from recipes.training.forecast import print_forecast
from recipes.training.heldout import evaluate_baselines, evaluate_policy
from recipes.training.phases import train_policy
from recipes.training.problems import mixed_problems
from recipes.training.tracking import check_trackers, start_tracking
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.reward_funcs import load_rewards

SHOWN_METRICS = {
    "reward": "reward {:.2f}",
    "workflow/valid": "valid {:.0%}",
    "executor/run_cost_usd": "${:.2f}",
}


class Clock:
    """Wall seconds of each phase, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def run_recipe(trainer_class: type[WorkflowGRPOTrainer], default_config: str, description: str | None) -> None:
    """Run a GRPO recipe from flags to result files.

    Args:
        trainer_class (`type[WorkflowGRPOTrainer]`): the recipe's trainer.
        default_config (`str`): its YAML in `recipes/configs/`.
        description (`str`): head of its `--help`.

    Raises:
        UsageError: bad flags, no key, a missing file.
        InfraError: the executor turned out to be unusable.
    """
    quiet_libraries()
    args = parse_arguments(default_config, description or "")
    main_process = PartialState().is_main_process
    start = starting_point(args, main_process)
    check_domains(trainer_class, args)
    check_requirements(args)
    check_trackers(args.training.report_to)
    load_rewards(args.recipe.reward_funcs, args.training.reward_weights)
    if main_process:
        print_effective_values(args)
    problems = training_and_heldout_problems(args)
    if args.recipe.dry_run:
        train, heldout = map(len, problems)
        print(f"dry run: {train} training and {heldout} held-out problems; nothing was started")
        return
    with open_backup(
        args.recipe.backup_url,
        Path(args.training.output_dir),
        wait_seconds=args.recipe.backup_wait_seconds,
        keep=args.training.save_total_limit,
        fresh=start is None,
        main_process=main_process,
    ) as backup:
        run_experiment(Experiment(trainer_class, args, default_config, *problems, start, backup))


@dataclass(frozen=True)
class Experiment:
    """What one experiment is made of.

    Args:
        trainer_class (`type[WorkflowGRPOTrainer]`): the recipe's trainer.
        args (`Arguments`): what the recipe was told.
        default_config (`str`): the recipe's own YAML, named in the settings that are kept.
        train (`list[Problem]`): one epoch of training problems.
        heldout (`list[Problem]`): the held-out ones.
        start (`Checkpoint`, *optional*): where to go on.
        backup (`Backup`, *optional*): of this run, in the main process.
    """

    trainer_class: type[WorkflowGRPOTrainer]
    args: Arguments
    default_config: str
    train: list[Problem]
    heldout: list[Problem]
    start: Checkpoint | None
    backup: Backup | None


def run_experiment(experiment: Experiment) -> None:
    """Evaluate, train, evaluate again and write the results, in a folder that no other run writes meanwhile."""
    training, main_process = experiment.args.training, PartialState().is_main_process
    asyncio.run(check_executor(experiment.args.executor))
    publication = requested_publication(training) if main_process else None
    with claimed(Path(training.output_dir)) if main_process else nullcontext():
        train_and_evaluate(experiment)
    if publication is not None:
        print(f"pushed to {publish_finished_run(Path(training.output_dir), publication)}")


def train_and_evaluate(experiment: Experiment) -> None:
    """Do what `run_experiment` says, in a folder that is ours."""
    args, heldout, backup = experiment.args, experiment.heldout, experiment.backup
    main_process = PartialState().is_main_process
    if main_process:
        if experiment.start is not None:
            print_resumption(args, experiment.start)
        write_config(Path(args.training.output_dir), experiment.default_config, run_settings(args))
    clock = Clock()
    with clock.phase("warm_start"):
        ensure_policy(args)
    with clock.phase("startup"):
        trainer = build_trainer(experiment.trainer_class, args, experiment.train)
        trainer.backup = backup
        start_tracking(trainer, args)
        policy = Path(args.model.model_name_or_path)
        if backup is not None and policy.is_dir():
            backup.policy(policy)
    try:
        with clock.phase("evaluation_before"):
            before = evaluate_policy(trainer, heldout, args, "held-out before")
        if main_process:
            print_forecast(args, trainer.accelerator.num_processes, before)
        with clock.phase("baselines"):
            baselines = evaluate_baselines(trainer, heldout) if args.recipe.baselines else {}
        quietly = partial(evaluate_policy, trainer, heldout, args, "held-out", visible=False)
        trainer.add_callback(BestByHeldout(trainer, args.recipe.heldout_every, quietly))
        with clock.phase("training"), progress_of(trainer, "GRPO", SHOWN_METRICS):
            train_policy(trainer, experiment.start)
        with clock.phase("evaluation_after"):
            after = evaluate_policy(trainer, heldout, args, "held-out after")
        trainer.save_model()
        trainer.rollout_log.close()
        usage = sum(gather_object([trainer.executor.usage]), ExecutorUsage())
        if main_process:
            result = HeldOut(before, after, baselines)
            history, style = trainer.state.log_history, args.recipe.prompt_style
            write_results(trainer.run_dir, result, clock.seconds, usage, history, style)
            print_results(trainer.run_dir, result)
        if backup is not None:
            backup.results(trainer.state.global_step)
    finally:
        trainer.close()
    trainer.end()


def run_settings(args: Arguments) -> dict[str, Any]:
    """Return the run's effective settings, those of its GPU class too."""
    always = frozenset(args.layers.class_values)
    return effective_config(args.recipe, args.training, args.model, args.executor, always=always)


def training_and_heldout_problems(args: Arguments) -> tuple[list[Problem], list[Problem]]:
    """Load one epoch of training problems, in the curriculum's order if there is one, and the held-out ones.

    Both have the same domain mix.
    """
    recipe, seed = args.recipe, args.training.seed
    queue = queue_of(recipe.curriculum, recipe.curriculum_rows, seed)
    train = mixed_problems(recipe.sources, recipe.mix, recipe.num_train_problems, "train", seed, queue)
    if queue is not None:
        args.training.shuffle_dataset = False
    if isinstance(queue, EasiestFirst):
        queue.check_fits(train)
    heldout = mixed_problems(recipe.sources, recipe.mix, recipe.num_heldout_problems, "heldout", seed)
    return train, heldout


def build_trainer(
    trainer_class: type[WorkflowGRPOTrainer], args: Arguments, problems: Sequence[Problem]
) -> WorkflowGRPOTrainer:
    """Load the policy and its tokenizer into the recipe's trainer."""
    training, model = args.training, args.model
    if training.num_generations < 4:
        print(
            f"warning: num_generations={training.num_generations}: groups this small often carry no signal or collapse "
            "the policy (two rewards scale to advantages of exactly +-1); use at least 4 where memory allows",
            file=sys.stderr,
        )
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(training.model_init_kwargs or {}),
    }
    if PartialState().is_main_process and not training.resume_from_checkpoint:
        RolloutLog(Path(training.output_dir)).remove()
        drop_checkpoints_after(Path(training.output_dir), -1)  # unfinished ones
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model.model_name_or_path, revision=model.model_revision, padding_side="left"
        )
        return trainer_class(
            model=model.model_name_or_path,
            args=training,
            recipe=args.recipe,
            executor=args.executor,
            problems=problems,
            reward_funcs=args.recipe.reward_funcs,
            processing_class=tokenizer,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            callbacks=[MetricsFile(Path(training.output_dir) / "metrics.csv")],
        )
    except OSError as error:
        raise UsageError(f"--model_name_or_path {model.model_name_or_path}: {error}") from error
