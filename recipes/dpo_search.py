"""Score-DPO on what a search found, then on what the policy itself writes: iterations of sampling, scoring, training.

    python scripts/search.py --data gsm8k --output outputs/search/gsm8k ...
    accelerate launch recipes/dpo_search.py --trajectories outputs/search/gsm8k --sources gsm8k --domain_mix math=1

The first iteration trains on the trajectories that are given. Each further one lets the policy write workflows for
training problems, runs and grades them, and trains on all that is known by then, against the policy as it was
(ScoreFlow, arXiv:2502.04306). `--no_score_weighting` is plain DPO. Every flag of `trl.DPOConfig` works. A run that was
stopped goes on with `--resume_from_checkpoint auto`. What a run leaves: recipes/README.md.
"""

import copy
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import ModelConfig, get_peft_config, get_quantization_config

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, check_key
from aflow_ops.policy_prompt import PromptStyle
from data.files import write_atomically
from data.mixing import parse_mix
from data.pairs import all_pairs, sample_pairs
from data.problem import Problem
from data.registry import DEFAULT_SOURCES
from data.trajectories import Trajectory, read_trajectories, regrouped
from data.trajectory_sets import distinct, statistics
from recipes.policy.loading import loading_policy, with_model_settings
from recipes.policy.warm_start import ensure_policy
from recipes.run.checkpoints import AUTO, Checkpoint, latest_checkpoint, seal, unseal
from recipes.run.command import run_command
from recipes.run.config import copy_config
from recipes.run.open import Run, open_run
from recipes.run.progress import MetricsFile, progress_of
from recipes.settings.arguments import BackupArguments, WorkflowDPOConfig
from recipes.settings.checks import check_trackers
from recipes.settings.chosen import RunConfig
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import parse_with_config
from recipes.settings.rehearsal import check_base_model
from recipes.training.experience import Caps, cap, load_trajectories, same_workflow
from recipes.training.problems import mixed_problems
from recipes.training.sampled import score_workflows, write_trajectories, write_workflows
from recipes.training.score_dpo import ScoreDPOTrainer, pairs_dataset


@dataclass
class DPOSearchArguments(BackupArguments):
    """What Score-DPO needs beside TRL's and the executor's flags.

    Args:
        trajectories (`list[str]`): files or folders that `load_trajectories` takes.
        sources (`list[str]`): problems that the policy writes for in later iterations.
        iterations (`int`): the first trains on `trajectories`, the others sample and score before.
    """

    trajectories: list[str] = field(
        default_factory=list, metadata={"help": "Files or folders of a search, a run or an evaluation to learn from."}
    )
    sources: list[str] = field(
        default_factory=lambda: list(DEFAULT_SOURCES),
        metadata={"help": "Problem sources: names of data/registry.py, or JSONL files."},
    )
    domain_mix: str = field(default="math=0.34,qa=0.33,code=0.33", metadata={"help": "Share of each domain."})
    num_train_problems: int = field(default=200, metadata={"help": "Problems that an iteration writes for."})
    num_heldout_problems: int = field(
        default=60, metadata={"help": "Held-out problems, which no trajectory may be of."}
    )
    prompt_style: PromptStyle = field(
        default="full", metadata={"help": "Policy prompt, as in the GRPO recipes.", "choices": ["full", "brief"]}
    )
    task_line: bool = field(
        default=False,
        metadata={
            "help": "Name the kind of task in a comment of every workflow that another policy wrote, as a warm "
            "start with --task_line does."
        },
    )
    score_weighting: bool = field(default=True, metadata={"help": "--no_score_weighting is plain DPO."})
    num_pairs: int = field(default=2000, metadata={"help": "Pairs that an iteration draws."})
    pair_power: float = field(
        default=3.0, metadata={"help": "Pairs are drawn in proportion to this power of their gap."}
    )
    trajectories_per_problem: int = field(default=16, metadata={"help": "Different workflows used of a problem."})
    trajectories_per_workflow: int = field(
        default=64, metadata={"help": "Problems that one workflow is used for, so that no design drowns the rest."}
    )
    iterations: int = field(default=2, metadata={"help": "Trainings; all but the first sample and score before."})
    samples_per_problem: int = field(default=8, metadata={"help": "Workflows that the policy writes for a problem."})
    runs_per_workflow: int = field(default=3, metadata={"help": "Runs of each; its score is their mean."})
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the sampling."})
    max_completion_length: int = field(default=1024, metadata={"help": "Longest workflow, tokens."})
    workflow_timeout: float = field(default=180.0, metadata={"help": "Wall-clock limit of one workflow, seconds."})
    warm_start_config: str | None = field(
        default=None, metadata={"help": "YAML of recipes/sft_warmstart.py, run first, as in the GRPO recipes."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check flags and files, and stop."})

    def __post_init__(self) -> None:
        parse_mix(self.domain_mix)
        if not self.trajectories:
            raise ValueError("trajectories: name what to learn from, e.g. --trajectories outputs/search/NAME")
        least = {"iterations": 1, "samples_per_problem": 2, "runs_per_workflow": 1, "num_pairs": 1}
        least |= {"num_train_problems": 1, "num_heldout_problems": 1, "max_completion_length": 1}
        least |= {"trajectories_per_problem": 1, "trajectories_per_workflow": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {value}")
        for name in ("temperature", "workflow_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if self.pair_power < 0:
            raise ValueError(f"pair_power={self.pair_power} must not be negative")


def main() -> None:
    """Train, and in later iterations sample and score before; the last adapter is the run's."""
    quiet_libraries()
    parts = parse_with_config(
        (DPOSearchArguments, WorkflowDPOConfig, ModelConfig, ExecutorConfig), "dpo_search.yaml", __doc__
    )
    recipe, training, model, executor = parts
    check(recipe, training, model, executor)
    mix = parse_mix(recipe.domain_mix)
    train = mixed_problems(recipe.sources, mix, recipe.num_train_problems, "train", training.seed)
    heldout = mixed_problems(recipe.sources, mix, recipe.num_heldout_problems, "heldout", training.seed)
    known = load_trajectories(
        recipe.trajectories, heldout=heldout, problems=train, style=recipe.prompt_style, task_line=recipe.task_line
    )
    pairs_of(known, recipe, training.seed)
    if recipe.dry_run:
        print(f"dry run: {statistics(known, same_workflow).line()}; nothing was started")
        return
    asked = executor if recipe.iterations > 1 else None
    start = latest_checkpoint(Path(training.output_dir), quiet=True) if training.resume_from_checkpoint else None
    with open_run(RunConfig.of(__file__, *parts), start, training, backup=recipe, executor=asked) as run:
        bring_back(run.folder, start)
        with run.phase("warm_start"):
            ensure_policy(model.model_name_or_path, recipe.warm_start_config, training.seed)
        adapter: Path | None = None
        found: list[dict[str, Any]] = []
        for number in range(1, recipe.iterations + 1):
            folder = run.folder / f"iteration-{number}"
            if adapter is not None:
                # One group a problem, so that pairs go across what was found and what the policy wrote.
                known = distinct(regrouped([*known, *sampled(folder, adapter, train, parts, run)]), same_workflow)
            found.append(train_iteration(folder, adapter, known, parts, run))
            back_up(run, number, model.model_name_or_path)
            adapter = folder
        finish(run, folder, found, recipe)


def check(
    recipe: DPOSearchArguments, training: WorkflowDPOConfig, model: ModelConfig, executor: ExecutorConfig
) -> None:
    """Refuse what cannot work before anything is loaded or paid.

    Raises:
        UsageError: says what.
    """
    folder, asked = Path(training.output_dir), training.resume_from_checkpoint
    check_trackers(training.report_to)
    check_base_model(model)
    if recipe.iterations > 1:
        check_key(executor)
    if training.use_weighting and recipe.score_weighting:
        raise UsageError(
            "--use_weighting: it would read probabilities that the scores have scaled; leave it out, or say "
            "--no_score_weighting"
        )
    if training.push_to_hub:
        raise UsageError("--push_to_hub: publish the finished run with scripts/push_to_hub.py")
    if asked not in (None, AUTO):
        raise UsageError(f"--resume_from_checkpoint {asked}: a run of several iterations goes on with '{AUTO}'")
    if asked is None and any(folder.glob("iteration-*/*")):
        raise UsageError(
            f"{folder} has iterations of an earlier run: --resume_from_checkpoint {AUTO} goes on with them; choose "
            "another --output_dir, or remove the folder, to start anew"
        )


def pairs_of(trajectories: list[Trajectory], recipe: DPOSearchArguments, seed: int) -> list[Any]:
    """Draw the pairs of an iteration.

    Raises:
        UsageError: no two workflows of a problem earned differently.
    """
    caps = Caps(recipe.trajectories_per_problem, recipe.trajectories_per_workflow, "spread")
    pairs = all_pairs(cap(trajectories, caps, trajectories))
    if not pairs:
        raise UsageError(
            f"--trajectories {' '.join(recipe.trajectories)}: no two workflows of a problem earned differently; there "
            "is nothing to prefer"
        )
    return sample_pairs(pairs, recipe.num_pairs, power=recipe.pair_power, seed=seed)


def sampled(folder: Path, adapter: Path, problems: list[Problem], parts: Any, run: Run) -> list[Trajectory]:
    """Return what the policy wrote for the problems and what it earned, from the iteration's file once it is there."""
    recipe, training, model, executor = parts
    path, base = folder / "trajectories.jsonl", model.model_name_or_path
    with run.phase(f"{folder.name}_sampling"):
        if not path.is_file():
            tuned: tuple[str, str | None] = (base, str(adapter)) if model.use_peft else (str(adapter), None)
            written = write_workflows(
                *tuned, problems, samples=recipe.samples_per_problem, style=recipe.prompt_style,
                max_new_tokens=recipe.max_completion_length, temperature=recipe.temperature,
                batch_size=max(32, training.per_device_eval_batch_size), seed=training.seed,
            )  # fmt: skip
            rows = score_workflows(
                written, executor, run.folder, runs=recipe.runs_per_workflow, style=recipe.prompt_style, policy=base,
                seed=str(training.seed), workflow_timeout=recipe.workflow_timeout, proven=True,
            )  # fmt: skip
            if PartialState().is_main_process:
                write_trajectories(path, rows)
            PartialState().wait_for_everyone()
    return read_trajectories(path)


def train_iteration(
    folder: Path, adapter: Path | None, known: list[Trajectory], parts: Any, run: Run
) -> dict[str, Any]:
    """Train one iteration, from its latest checkpoint if it has one; nothing is done when it is finished."""
    recipe, training, model, _ = parts
    done = folder / "iteration.json"
    if done.is_file():
        finished: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return finished
    start = latest_checkpoint(folder, quiet=not PartialState().is_main_process)
    args = with_model_settings(training, model)
    args.output_dir, args.resume_from_checkpoint = str(folder), None
    pairs = pairs_of(known, recipe, training.seed)
    with run.phase(f"{folder.name}_training"), loading_policy(model.model_name_or_path):
        trainer = ScoreDPOTrainer(
            train_dataset=pairs_dataset(pairs),
            processing_class=AutoTokenizer.from_pretrained(model.model_name_or_path, revision=model.model_revision),
            score_weighting=recipe.score_weighting,
            callbacks=[MetricsFile(folder / "metrics.csv")],
            **policy(adapter, args, model),
        )
        with progress_of(trainer, f"DPO {folder.name}", {"loss": "loss {:.3f}", "rewards/margins": "margin {:.2f}"}):
            trainer.train(resume_from_checkpoint=None if start is None else str(start.path))
        trainer.save_model()
    found = {"trajectories": statistics(known, same_workflow).to_dict(), "pairs": len(pairs)}
    if PartialState().is_main_process:
        copy_config(run.folder, folder)
        with write_atomically(done) as file:
            json.dump(found, file, indent=1)
    PartialState().wait_for_everyone()
    return found


def policy(adapter: Path | None, args: WorkflowDPOConfig, model: ModelConfig) -> dict[str, Any]:
    """Return the policy and its settings as TRL takes them: the base, or what the iteration before came to.

    That is its reference too.
    """
    quantization = get_quantization_config(model)
    if adapter is None or not model.use_peft:
        name = model.model_name_or_path if adapter is None else str(adapter)
        lora = get_peft_config(model)
        return {"args": args, "model": name, "quantization_config": quantization, "peft_config": lora}
    from peft import PeftModel  # takes seconds

    base = AutoModelForCausalLM.from_pretrained(
        model.model_name_or_path, quantization_config=quantization, **(args.model_init_kwargs or {})
    )
    loaded = copy.copy(args)
    loaded.model_init_kwargs = None  # TRL takes them for a model that it loads itself
    return {"args": loaded, "model": PeftModel.from_pretrained(base, adapter, is_trainable=True)}


def back_up(run: Run, number: int, base: str) -> None:
    """Make `checkpoint-N` of all that the first N iterations came to, and have it copied away, where there is a backup.

    Within an iteration there is none: a machine that is lost costs that iteration.
    """
    target, newest = run.folder / f"checkpoint-{number}", latest_checkpoint(run.folder, quiet=True)
    if run.backup is None or (newest is not None and newest.step >= number):
        return
    if Path(base).is_dir():
        run.backup.policy(Path(base))
    unseal(target)
    for iteration in (run.folder / f"iteration-{done}" for done in range(1, number + 1)):
        (target / iteration.name).mkdir(parents=True, exist_ok=True)
        for path in iteration.iterdir():
            if path.is_file() and path.name != "training_args.bin":
                shutil.copy2(path, target / iteration.name / path.name)
    seal(target, {"rollouts_bytes": 0, "resumable": True})
    drop_checkpoints_before(run.folder, number)
    run.backup.checkpoint(target)


def bring_back(folder: Path, start: Checkpoint | None) -> None:
    """Put the iterations of a checkpoint in their places, where a machine that was lost has left none."""
    if start is None or not PartialState().is_main_process:
        return
    for iteration in sorted(start.path.glob("iteration-*")):
        if not (folder / iteration.name / "iteration.json").is_file():
            shutil.copytree(iteration, folder / iteration.name, dirs_exist_ok=True)


def drop_checkpoints_before(folder: Path, number: int) -> None:
    """Remove the run's checkpoints of fewer iterations: the newest one has all of them."""
    for path in folder.glob("checkpoint-*"):
        if int(path.name.rpartition("-")[2]) < number:
            shutil.rmtree(path)


def finish(run: Run, last: Path, found: list[dict[str, Any]], recipe: DPOSearchArguments) -> None:
    """Bring the last iteration's policy to the run's own folder, with a summary beside it."""
    if PartialState().is_main_process:
        for path in last.iterdir():
            if path.is_file() and path.name not in ("iteration.json", "trajectories.jsonl", "training_args.bin"):
                shutil.copy2(path, run.folder / path.name)
    run.finish_offline({"iterations": found, "prompt_style": recipe.prompt_style}, step=0)


if __name__ == "__main__":
    sys.exit(run_command(main))
