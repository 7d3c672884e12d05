"""One experiment: policy, baselines, training, evaluation before and after, and the files that it leaves.

A recipe names its trainer class and its YAML; everything here is shared by all of them, in the order in which it runs.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import AutoTokenizer
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import get_peft_config, get_quantization_config
from trl.models import unwrap_model_for_generation

from aflow_ops.errors import BudgetExceededError, FatalExecutorError, InfraError, UsageError
from aflow_ops.executor import ExecutorUsage, check_executor, price_of
from aflow_ops.policy_prompt import policy_messages
from data.corpus import CORPUS_FILE
from data.files import claimed
from data.problem import Problem
from recipes.arguments import Arguments, parse_arguments
from recipes.backup import Backup, open_backup
from recipes.best import BestByHeldout
from recipes.checkpoints import AUTO, Checkpoint, checkpoint_to_resume, drop_checkpoints_after, latest_checkpoint
from recipes.curriculum import EasiestFirst, queue_of
from recipes.effective import print_effective_values
from recipes.generation import generate_completions
from recipes.guard import Collapse
from recipes.hub import publish_finished_run, requested_publication
from recipes.problems import mixed_problems
from recipes.progress import Bar, MetricsFile, progress_of, quiet_libraries
from recipes.results import HeldOut, print_results, write_results
from recipes.rollout_log import RolloutLog
from recipes.run_config import changed_settings, effective_config, read_config, write_config
from recipes.tracking import check_trackers, start_tracking
from recipes.trainer import WorkflowGRPOTrainer
from rewards.baselines import FIXED_BASELINES
from rewards.workflow_reward import score_all

SHOWN_METRICS = {
    "reward": "reward {:.2f}",
    "workflow/valid": "valid {:.0%}",
    "executor/run_cost_usd": "${:.2f}",
}
# After so many roll-backs a collapse ends the run.
MAX_ROLL_BACKS = 3


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


def starting_point(args: Arguments, main_process: bool) -> Checkpoint | None:
    """Return the checkpoint to go on from; `None` for a fresh start, which never overwrites another run's checkpoints.

    Raises:
        UsageError: the checkpoint asked for is not whole, or there are checkpoints and none was asked for.
    """
    training = args.training
    run_dir, asked = Path(training.output_dir), training.resume_from_checkpoint
    start = checkpoint_to_resume(asked, run_dir, quiet=not main_process)
    if start is None and (earlier := latest_checkpoint(run_dir, quiet=True)) and earlier.step > 0:
        raise UsageError(
            f"{run_dir} has {earlier.path.name} of an earlier run: --resume_from_checkpoint {AUTO} goes on from it; "
            "choose another --output_dir, or remove the folder, to start anew"
        )
    training.resume_from_checkpoint = None if start is None else str(start.path)
    return start


def print_resumption(args: Arguments, start: Checkpoint) -> None:
    """Say where a run goes on, what is left to do, and which settings are not those that it was started with."""
    steps = args.training.max_steps
    said = f"going on from {start.path}" + (f": step {start.step} of {steps}" if steps > 0 else "")
    if 0 < steps <= start.step:
        said += ", nothing left to train; raise --max_steps, or start anew in another --output_dir"
    before = read_config(Path(args.training.output_dir))
    changed = changed_settings(before, args.recipe, args.training, args.model, args.executor) if before else []
    if changed:
        said += f"; changed: {', '.join(changed)}"
    print(said, file=sys.stderr)


def print_forecast(args: Arguments, processes: int, rows: Sequence[dict[str, Any]]) -> None:
    """Say what training will cost at most, from what the evaluation before it cost without the cache's help."""
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    price = price_of(args.executor.executor_model)
    if price is None or not traces:
        return
    training = args.training
    steps = training.max_steps
    if steps < 0:
        steps = int(training.num_train_epochs * args.recipe.num_train_problems * training.num_generations)
        steps //= training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    rollouts = steps * training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    cost = sum(t["prompt_tokens"] * price[0] + t["completion_tokens"] * price[1] for t in traces) / len(rows)
    calls = sum(len(trace["calls"]) for trace in traces) / len(rows)
    if cost > 0:
        budget = args.executor.executor_budget_usd
        print(
            f"forecast: {rollouts:,} rollouts in {steps:,} steps, about {calls * rollouts:,.0f} operator calls and "
            f"${cost * rollouts:,.2f} for {args.executor.executor_model}, less what the cache saves"
            + (f"; budget ${budget:g}" if budget else "; no budget (--executor_budget_usd)"),
            file=sys.stderr,
        )


def check_domains(trainer_class: type[WorkflowGRPOTrainer], args: Arguments) -> None:
    """Refuse a domain mix that the recipe is not for.

    Raises:
        UsageError: names the domain and the recipe that takes it.
    """
    for domain, share in args.recipe.mix.items():
        if share > 0 and domain not in trainer_class.domains:
            raise UsageError(
                f"domain_mix={args.recipe.domain_mix!r}: this recipe is for {', '.join(trainer_class.domains)} only; "
                f"use recipes/grpo_{domain}.py, or recipes/grpo_mixed.py for several"
            )


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


def check_requirements(args: Arguments) -> None:
    """Look for the optional packages that the values need, and for the warm start's YAML.

    Raises:
        UsageError: names what is missing and how to get it.
    """
    wanted = {
        "bitsandbytes": (args.model.load_in_4bit or args.model.load_in_8bit, "load_in_4bit", "quantized"),
        "vllm": (args.training.use_vllm, "use_vllm", "vllm"),
        "liger_kernel": (args.training.use_liger_kernel, "use_liger_kernel", "liger"),
    }
    for package, (needed, flag, extra) in wanted.items():
        if needed and find_spec(package) is None:
            raise UsageError(
                f'{flag} ({args.layers.origin(flag)}) needs the package {package}: pip install --editable ".[{extra}]"'
            )
    config = args.recipe.warm_start_config
    if config not in (None, "none") and not Path(config).is_file():
        raise UsageError(f"warm_start_config: {config} does not exist")


def ensure_policy(args: Arguments) -> None:
    """Warm-start the policy with `warm_start_config`, unless the same warm start is already in its folder."""
    config = args.recipe.warm_start_config
    if config in (None, "none"):
        return
    folder = Path(args.model.model_name_or_path)
    state = PartialState()
    if state.is_main_process:
        warm_start(Path(config), folder, args.training.seed)
    state.wait_for_everyone()


def warm_start(config: Path, folder: Path, seed: int) -> None:
    """Run `recipes/sft_warmstart.py` in a process of its own, with the run's seed, and stamp its result.

    Raises:
        UsageError: the warm start failed.
    """
    inputs = config.read_bytes() + CORPUS_FILE.read_bytes() + f"seed {seed}".encode()
    stamp, fingerprint = folder / "warm_start.sha256", hashlib.sha256(inputs).hexdigest()
    if stamp.is_file() and stamp.read_text() == fingerprint:
        print(f"policy: {folder} (cached)", file=sys.stderr)
        return
    print(f"policy: building and warm-starting {folder}", file=sys.stderr)
    command = [sys.executable, str(Path(__file__).parent / "sft_warmstart.py")]
    command += ["--config", str(config), "--output_dir", str(folder), "--seed", str(seed)]
    launcher = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_",
        "ACCELERATE_",
        "OPENAI_",
        "TORCHELASTIC_",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(launcher)}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise UsageError(f"the warm start with {config} failed; its message is above")
    stamp.write_text(fingerprint)


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
            processing_class=tokenizer,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            callbacks=[MetricsFile(Path(training.output_dir) / "metrics.csv")],
        )
    except OSError as error:
        raise UsageError(f"--model_name_or_path {model.model_name_or_path}: {error}") from error


def train_policy(trainer: WorkflowGRPOTrainer, start: Checkpoint | None) -> None:
    """Train from the beginning or a checkpoint, rolling back when the policy collapses.

    Raises:
        InfraError: the executor gives no more (a spent budget, an outage, a revoked key), or the policy collapsed again
            after the last roll-back; with where the checkpoint is.
    """
    for rolled_back in range(MAX_ROLL_BACKS + 1):
        trainer.start_from(start)
        try:
            trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
        except FatalExecutorError as error:
            if trainer.state.global_step == 0 or trainer.accelerator.num_processes > 1:
                raise  # nothing learned, or processes that no longer meet: the last regular checkpoint stands
            checkpoint = trainer.save_checkpoint()
            where = f"go on from step {trainer.state.global_step} with --resume_from_checkpoint {checkpoint}"
            raise type(error)(f"{error}; {where}") from error
        if trainer.stop_error is not None:
            step = trainer.state.global_step
            where = f"go on from step {step} with --resume_from_checkpoint {trainer.run_dir / f'checkpoint-{step}'}"
            raise type(trainer.stop_error)(f"{trainer.stop_error}; {where}")
        if trainer.collapse is None:
            return
        start = roll_back(trainer, trainer.collapse, last=rolled_back == MAX_ROLL_BACKS)


def roll_back(trainer: WorkflowGRPOTrainer, collapse: Collapse, *, last: bool) -> Checkpoint:
    """Choose the last checkpoint before a collapse, drop the later ones and lower the learning rate; say so.

    Raises:
        InfraError: it collapsed for the last time, or cannot be rolled back here.
    """
    good = latest_checkpoint(trainer.run_dir, before=collapse.since_step + 1, quiet=True)
    what = (
        f"collapse: {collapse.now:.0%} of the workflows are valid, {collapse.level:.0%} were before step "
        f"{collapse.since_step}"
    )
    if good is None or last or trainer.is_deepspeed_enabled:
        where = f"; {good.path} is the last good checkpoint" if good else ""
        raise InfraError(
            f"{what}{where}; go on from it with --resume_from_checkpoint and a learning rate well below "
            f"{trainer.args.learning_rate * trainer.lr_scale:g}, a larger --beta, or more --num_generations"
        )
    trainer.lr_scale *= trainer.recipe.collapse_lr_factor
    if trainer.accelerator.is_main_process:
        rate = trainer.args.learning_rate * trainer.lr_scale
        print(f"{what}; back to step {good.step} with learning rate {rate:g}", file=sys.stderr)
        if trainer.backup is not None:
            trainer.backup.forget_after(good.step)
        drop_checkpoints_after(trainer.run_dir, good.step)
    trainer.accelerator.wait_for_everyone()
    trainer.collapse = None
    return good


@contextmanager
def policy_for_generation(trainer: WorkflowGRPOTrainer) -> Iterator[Any]:
    """Yield the policy with whole parameters, in evaluation mode, before as well as after `trainer.train()`."""
    was_training = trainer.model.training
    prepared = trainer.model_wrapped is not trainer.model
    if prepared:
        context = unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator)
    elif is_deepspeed_zero3_enabled():
        import deepspeed  # slow to import, and only needed here

        parameters = deepspeed.zero.GatheredParameters(list(trainer.model.parameters()))
        context = _entered(parameters, trainer.model)
    else:
        context = nullcontext(trainer.model)
    with torch.no_grad(), context as model:
        model.eval()
        yield model
    trainer.model.train(was_training)


@contextmanager
def _entered(context: Any, value: Any) -> Iterator[Any]:
    with context:
        yield value


def evaluate_policy(
    trainer: WorkflowGRPOTrainer, problems: Sequence[Problem], args: Arguments, label: str, *, visible: bool = True
) -> list[dict[str, Any]]:
    """Let the policy write `eval_samples` workflows for every problem, run and grade them.

    Each process takes its share of the problems. Progress is shown as `label` unless not `visible`.

    Returns:
        `list[dict]`: rows of all processes, as `Rollout.to_row()` gives them.
    """
    samples = [problem for problem in problems for _ in range(args.recipe.eval_samples)]
    mine = samples[trainer.accelerator.process_index :: trainer.accelerator.num_processes]
    with policy_for_generation(trainer) as model:
        completions = generate_completions(
            model,
            trainer.processing_class,
            [policy_messages(problem.view, style=args.recipe.prompt_style) for problem in mine],
            max_new_tokens=args.training.max_completion_length,
            temperature=args.recipe.eval_temperature,
            top_p=args.training.top_p,
            top_k=args.training.top_k,
            repetition_penalty=args.training.repetition_penalty,
            batch_size=max(32, args.training.per_device_train_batch_size),
            seed=args.training.seed + trainer.accelerator.process_index,
        )
    return _score(trainer, list(zip(mine, completions, strict=True)), label, visible=visible)


def evaluate_baselines(trainer: WorkflowGRPOTrainer, problems: Sequence[Problem]) -> dict[str, list[dict[str, Any]]]:
    """Run every fixed workflow on the same problems; rows by baseline name."""
    mine = problems[trainer.accelerator.process_index :: trainer.accelerator.num_processes]
    names = [name for name in FIXED_BASELINES for _ in mine]
    pairs = [(problem, FIXED_BASELINES[name]) for name in FIXED_BASELINES for problem in mine]
    rows = _score(trainer, pairs, "fixed baselines", names)
    return {name: [row for row in rows if row["baseline"] == name] for name in FIXED_BASELINES}


def _score(
    trainer: WorkflowGRPOTrainer,
    pairs: list[tuple[Problem, str]],
    label: str,
    names: list[str] | None = None,
    *,
    visible: bool = True,
) -> list[dict[str, Any]]:
    with Bar(label, len(pairs), visible=visible and trainer.accelerator.is_main_process) as bar:
        rollouts = trainer.run_async(score_all(trainer.scorer, pairs, on_result=lambda rollout: bar.update()))
    spent = [error for error in gather_object([trainer.scorer.spent and str(trainer.scorer.spent)]) if error]
    if spent:
        raise BudgetExceededError(spent[0])
    rows = [rollout.to_row() for rollout in rollouts]
    if names is not None:
        rows = [{"baseline": name, **row} for name, row in zip(names, rows, strict=True)]
    return list(gather_object(rows))
