"""GRPO on trajectories: the groups are what problems have in a file, with the rewards they got. Nothing is executed.

    python scripts/search.py --data gsm8k --output outputs/search/gsm8k ...
    accelerate launch recipes/grpo_replay.py --trajectories outputs/search/gsm8k

It needs no executor. Evaluate what comes of it with `scripts/evaluate.py`, or go on online with `recipes/grpo_*.py`.
Workflows longer than `--max_completion_length` are left out. Every flag of `trl.GRPOConfig` works; `--beta` keeps the
policy near its base, `--kl_where_positive` only where it is pulled up. What a run leaves: recipes/README.md.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from trl import ModelConfig

from aflow_ops.errors import UsageError
from aflow_ops.policy_prompt import PromptStyle
from data.problem import Problem
from data.registry import Split, load_problems
from data.trajectories import Trajectory
from data.trajectory_sets import by_group, has_signal, statistics
from recipes.policy.loading import loading_policy, policy_settings
from recipes.policy.warm_start import ensure_policy
from recipes.run.command import run_command
from recipes.run.open import open_run
from recipes.run.progress import MetricsFile, progress_of
from recipes.run.starting import starting_point
from recipes.settings.arguments import BackupArguments, WorkflowGRPOConfig
from recipes.settings.checks import check_trackers
from recipes.settings.chosen import RunConfig
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import parse_with_config
from recipes.settings.rehearsal import rehearse
from recipes.training.experience import Caps, cap, load_trajectories, same_workflow
from recipes.training.offline_grpo import OfflineGRPOTrainer
from recipes.training.phases import train_policy
from recipes.training.tracking import start_tracking


@dataclass
class GRPOReplayArguments(BackupArguments):
    """What GRPO on trajectories needs beside TRL's flags.

    Args:
        trajectories (`list[str]`): files or folders that `load_trajectories` takes.
        sources (`list[str]`): whose held-out problems no trajectory may be of, and whose problems the rows of an
            evaluation are of; a search's and a run's rows need none.
    """

    trajectories: list[str] = field(
        default_factory=list, metadata={"help": "Files or folders of a search, a run or an evaluation to learn from."}
    )
    sources: list[str] = field(
        default_factory=list,
        metadata={"help": "Problem sources: rows of an evaluation are of their training part, none of their held-out."},
    )
    num_train_problems: int = field(default=400, metadata={"help": "Problems read of each source's training part."})
    num_heldout_problems: int = field(default=400, metadata={"help": "Problems read of each source's held-out part."})
    prompt_style: PromptStyle = field(
        default="full", metadata={"help": "Policy prompt, as in the other GRPO recipes.", "choices": ["full", "brief"]}
    )
    trajectories_per_problem: int = field(default=16, metadata={"help": "Different workflows used of a problem."})
    trajectories_per_workflow: int = field(
        default=64, metadata={"help": "Problems that one workflow is used for, so that no design drowns the rest."}
    )
    replay_shaping: float = field(
        default=0.1,
        metadata={"help": "gamma of f(pi) = pi / (pi + gamma), the weight of rows that another policy wrote (LUFFY)."},
    )
    task_line: bool = field(
        default=False,
        metadata={
            "help": "Name the kind of task in a comment of every workflow that another policy wrote, as a warm "
            "start with --task_line does."
        },
    )
    kl_where_positive: bool = field(
        default=False, metadata={"help": "Count the KL term (--beta) only where the advantage is positive (SPOGW)."}
    )
    warm_start_config: str | None = field(
        default=None, metadata={"help": "YAML of recipes/sft_warmstart.py, run first, as in the other GRPO recipes."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check flags and files, and stop."})

    def __post_init__(self) -> None:
        if not self.trajectories:
            raise ValueError("trajectories: name what to learn from, e.g. --trajectories outputs/search/NAME")
        if not self.replay_shaping > 0:
            raise ValueError(f"replay_shaping={self.replay_shaping} must be above 0")
        for name in (
            "num_train_problems", "num_heldout_problems", "trajectories_per_problem", "trajectories_per_workflow",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


def main() -> None:
    """Read the groups, train on those with a signal, and write the policy with what it learned from."""
    quiet_libraries()
    parts = parse_with_config((GRPOReplayArguments, WorkflowGRPOConfig, ModelConfig), "grpo_replay.yaml", __doc__)
    recipe, training, model = parts
    check(training, model)
    start = starting_point(Path(training.output_dir), training.resume_from_checkpoint)
    trajectories = used_trajectories(recipe, training)
    groups = {name: rows for name, rows in by_group(trajectories).items() if has_signal(rows)}
    if not groups:
        raise UsageError(
            f"--trajectories {' '.join(recipe.trajectories)}: no problem has two workflows that earned differently; "
            "there is no advantage to learn from"
        )
    counted = statistics([row for rows in groups.values() for row in rows], same_workflow)
    print(f"trajectories: {counted.line()}", file=sys.stderr)
    if recipe.dry_run:
        print(f"dry run: {len(groups)} groups; nothing was started")
        return
    with open_run(RunConfig.of(__file__, *parts), start, training, backup=recipe) as run:
        with run.phase("warm_start"):
            ensure_policy(model.model_name_or_path, recipe.warm_start_config, training.seed)
        with run.phase("startup"), loading_policy(model.model_name_or_path):
            trainer = OfflineGRPOTrainer(
                **policy_settings(model, training),
                groups=groups,
                policy_name=model.model_name_or_path,
                shaping=recipe.replay_shaping,
                kl_where_positive=recipe.kl_where_positive,
                start=start,
                backup=run.backup,
                callbacks=[MetricsFile(run.folder / "metrics.csv")],
            )
        if trainer.too_long and trainer.accelerator.is_main_process:
            said = f"{trainer.too_long} are longer than max_completion_length={training.max_completion_length}"
            print(f"trajectories: {said}, and left out", file=sys.stderr)
        start_tracking(trainer, *parts)
        with run.phase("training"), progress_of(trainer, "GRPO on trajectories", {"loss": "loss {:.4f}"}):
            train_policy(trainer, start)
        trainer.save_model()
        counts = {**counted.to_dict(), "too_long": trainer.too_long}
        summary = {"trajectories": counts, "prompt_style": recipe.prompt_style}
        run.finish_offline(summary, trainer.state.global_step)


def check(training: WorkflowGRPOConfig, model: ModelConfig) -> None:
    """Refuse what cannot work before anything is loaded.

    Raises:
        UsageError: says what.
    """
    check_trackers(training.report_to)
    rehearse(model, training)
    if training.push_to_hub:
        raise UsageError("--push_to_hub: publish the finished run with scripts/push_to_hub.py")
    refused = {
        f"importance_sampling_level={training.importance_sampling_level}": (
            training.importance_sampling_level != "token",
            "given rows are weighted by token; use token",
        ),
        f"temperature_final={training.temperature_final}": (
            training.temperature_final is not None,
            "nothing is sampled; rows are scored at --temperature, that of their sampling",
        ),
        "use_vllm": (training.use_vllm, "nothing is sampled; leave it out"),
    }
    for flag, (wrong, why) in refused.items():
        if wrong:
            raise UsageError(f"{flag}: {why}")


def used_trajectories(recipe: GRPOReplayArguments, training: WorkflowGRPOConfig) -> list[Trajectory]:
    """Read the trajectories, refuse held-out problems, and keep a spread of good and bad ones in each group."""

    def problems(part: Split, count: int) -> list[Problem]:
        return [row for source in recipe.sources for row in load_problems(source, part, count, training.seed)]

    found = load_trajectories(
        recipe.trajectories,
        heldout=problems("heldout", recipe.num_heldout_problems),
        problems=problems("train", recipe.num_train_problems),
        style=recipe.prompt_style,
        task_line=recipe.task_line,
    )
    caps = Caps(recipe.trajectories_per_problem, recipe.trajectories_per_workflow, "spread")
    return cap(found, caps, found)


if __name__ == "__main__":
    sys.exit(run_command(main))
