"""Experiment trackers behind `--report_to`: wandb, trackio and tensorboard, quiet, and never in the way of a run.

`metrics.csv` is written whatever the trackers do. TRL's names of metrics stay; the policy's come under `policy/` too.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from transformers import TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback
from trl import GRPOTrainer

from aflow_ops.secrets import without_secrets

PROJECT = "aflow-recipes"
POLICY_METRICS = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "entropy": "policy/entropy",
    "kl": "policy/kl",
    "clip_ratio/low_mean": "policy/clip_ratio_low",
    "clip_ratio/high_mean": "policy/clip_ratio_high",
    "clip_ratio/region_mean": "policy/clip_ratio",
    "completions/mean_length": "policy/completion_length",
    "completions/clipped_ratio": "policy/completion_cut_off",
}
# Seconds that wandb may take to reach its server, and to upload what is left when a run ends.
WANDB_INIT_SECONDS = 30.0
WANDB_FINISH_SECONDS = 120.0
# What of the run wandb would send without being asked: the command line (it may hold a token), the repository's
# remote, the machine, the terminal.
WANDB_PRIVACY = {"console": "off", "disable_git": True, "x_disable_meta": True, "x_disable_machine_info": True}


def start_tracking(trainer: GRPOTrainer, *parts: Any) -> None:
    """Start the trackers of `report_to` with the run's name and settings; one line each on standard error.

    Does nothing but on the main process.

    Args:
        trainer (`GRPOTrainer`): not trained yet.
        parts: the parsed settings, each a dataclass; nothing secret of them is passed on.
    """
    training = trainer.args
    training.run_name = training.run_name or Path(training.output_dir).name
    training.project = os.environ.get("WANDB_PROJECT") or (
        PROJECT if training.project == "huggingface" else training.project
    )
    if not trainer.accelerator.is_main_process:
        return
    settings = flags(*parts)
    if "wandb" in training.report_to:
        _start_wandb(training, settings)
    if "trackio" in training.report_to:
        if training.trackio_static_space_id is None:
            training.trackio_static_space_id = False  # it would publish the logs whenever the model is pushed
        trainer.remove_callback(TrackioCallback)
        trainer.add_callback(_QuietTrackio(settings))
        where = f" --space {training.trackio_space_id}" if training.trackio_space_id else ""
        _say("trackio", f"trackio show --project {training.project}{where}")
    if "tensorboard" in training.report_to:
        callback = next(item for item in trainer.callback_handler.callbacks if isinstance(item, TensorBoardCallback))
        _start_tensorboard(callback, training, settings)


def flags(*parts: Any) -> dict[str, Any]:
    """Return every effective setting by its flag, without secrets.

    Args:
        parts: parsed settings: dataclasses, and transformers' own `TrainingArguments`.
    """
    found: dict[str, Any] = {}
    for part in parts:
        found |= part.to_dict() if isinstance(part, TrainingArguments) else dataclasses.asdict(part)
    return cast(dict[str, Any], without_secrets(found))


def add_policy_metrics(logs: dict[str, Any], pending: MutableMapping[str, list[float]], temperature: float) -> None:
    """Name what a log says of the policy under `policy/` as well.

    Args:
        logs (`dict`): a training log of the `Trainer`; names are added.
        pending (`MutableMapping[str, list[float]]`): TRL's metrics, not averaged yet; names are added.
        temperature (`float`): what the completions were sampled at.
    """
    for name, ours in POLICY_METRICS.items():
        if name in logs:
            logs[ours] = logs[name]
        if name in pending:
            pending[ours] = pending[name]
    logs["policy/temperature"] = temperature


def _say(tracker: str, what: str) -> None:
    print(f"{tracker}: {what}", file=sys.stderr)


# wandb


def _start_wandb(training: Any, settings: Mapping[str, Any]) -> None:
    """Open the run that transformers' callback will log to: online with a key and a network, else offline."""
    os.environ.setdefault("WANDB_SILENT", "true")  # its banner and summary; what matters is said here
    import wandb

    if wandb.run is not None or os.environ.get("WANDB_MODE") == "disabled":
        return
    folder = Path(training.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "project": training.project,
        "name": training.run_name,
        "dir": str(folder),
        "config": dict(settings),
        "id": _wandb_id(folder, resumed=training.resume_from_checkpoint is not None),
        "resume": "allow",
        "settings": wandb.Settings(
            init_timeout=WANDB_INIT_SECONDS, finish_timeout=WANDB_FINISH_SECONDS, **WANDB_PRIVACY
        ),
    }
    reason = _why_offline()
    if reason is None:
        try:
            run = wandb.init(**options)
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0]
    if reason is not None:
        run = wandb.init(**options, mode="offline")
        where = Path(run.settings.sync_dir)
        where = where.relative_to(Path.cwd()) if where.is_relative_to(Path.cwd()) else where
        _say("wandb", f"offline: {reason}; upload with: wandb sync {where}")
    else:
        _say("wandb", str(run.url))


def _why_offline() -> str | None:
    """Say why nothing can be sent; `None` when there is a key that the server takes."""
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    try:
        return None if wandb.login(prompt=False) else "no API key (WANDB_API_KEY)"
    except (wandb.errors.Error, ValueError) as error:
        return str(error).splitlines()[0]


def _wandb_id(folder: Path, *, resumed: bool) -> str:
    """The run's id at wandb, kept in its folder so that a resumed run goes on where it was."""
    kept = folder / ".wandb-id"
    if resumed and kept.is_file():
        return kept.read_text(encoding="utf-8").strip()
    name = uuid4().hex[:8]
    kept.write_text(name, encoding="utf-8")
    return name


# trackio, tensorboard


class _QuietTrackio(TrackioCallback):
    """Transformers' callback without its six lines on the terminal, and with the recipe's settings."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._settings = settings

    def setup(self, args: Any, state: Any, model: Any, **kwargs: Any) -> None:
        """Open the run."""
        with redirect_stdout(StringIO()):
            super().setup(args, state, model, **kwargs)
        if state.is_world_process_zero:
            self._trackio.config.update(dict(self._settings), allow_val_change=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the run."""
        with redirect_stdout(StringIO()):
            super().on_train_end(args, state, control, **kwargs)


def _start_tensorboard(callback: TensorBoardCallback, training: Any, settings: Mapping[str, Any]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    runs = Path(training.output_dir) / "runs"
    callback.logging_dir = callback.logging_dir or str(runs / f"{len(list(runs.glob('*'))) + 1:03d}")
    callback.tb_writer = SummaryWriter(log_dir=callback.logging_dir)
    table = "".join(f"| {name} | {str(value).replace('|', '/')} |\n" for name, value in settings.items())
    callback.tb_writer.add_text("flags", f"| flag | value |\n|---|---|\n{table}")
    _say("tensorboard", f"tensorboard --logdir {Path(callback.logging_dir).parent}")
