"""`ResumableGRPOTrainer`: TRL's `GRPOTrainer`, whose runs stop and go on as if they had not.

Checkpoints are sealed when they are whole and saved only between generations; a collapse or an error that further steps
cannot mend stops the run after a step; a lowered learning rate outlives a resume. What is sampled and rewarded is the
business of `trainer.py`.
"""

import asyncio
import copy
import logging
import re
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset
from safetensors import SafetensorError
from transformers import PreTrainedModel, TrainerCallback, TrainerControl
from transformers.trainer_utils import rotate_checkpoints
from trl import GRPOConfig

from aflow_ops.errors import InfraError
from recipes.backup.backup import Backup
from recipes.hub.publication import Publication
from recipes.hub.publish import publish
from recipes.run.checkpoints import Checkpoint, seal, unseal
from recipes.run.config import copy_config
from recipes.run.rollout_log import RolloutLog
from recipes.training.collapse import Collapse, CollapseWatch
from recipes.training.off_policy import OffPolicyGRPOTrainer
from recipes.training.sampling import EpochSampler
from recipes.training.tracking import add_policy_metrics
from recipes.training.trl_internals import not_an_unscored_row, train_in_float32

# What torch's file writers say on a full disk: the zip writer for large and for small files, and the stream under it.
_WRITER_FAILED = re.compile(r"inline_container\.cc|PytorchStreamWriter|iostream error")

T = TypeVar("T")


class ResumableGRPOTrainer(OffPolicyGRPOTrainer):
    """GRPO whose checkpoints are whole or not there, and which knows when to stop.

    Args:
        model (`PreTrainedModel` or `str`): the policy.
        args (`GRPOConfig`): training values; the trainer keeps a copy of its own.
        collapse_patience (`int`): steps with hardly a valid workflow before the run is stopped; 0 never.
        rollouts_part_mb (`float`): size from which `rollouts.jsonl` is closed as a part, MB.
        start (`Checkpoint`, *optional*): where the run goes on.
        backup (`Backup`, *optional*): told of the policy, if it is a folder, and of every sealed checkpoint.
        kwargs: as for `GRPOTrainer`.

    Attributes:
        stop_error (`InfraError`, *optional*): set by whoever sees that further steps are pointless.
        collapse (`Collapse`, *optional*): set when the policy has collapsed.
        kinds (`Sequence[str]`): kind of each training row, e.g. its source; every epoch mixes them as they come.
        lr_scale (`float`): what roll-backs have multiplied the learning rate with.
        steps_without_reward (`int`): the latest steps in a row in which nothing was graded.
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: GRPOConfig,
        *,
        collapse_patience: int,
        rollouts_part_mb: float,
        start: Checkpoint | None = None,
        backup: Backup | None = None,
        **kwargs: Any,
    ) -> None:
        args = copy.copy(args)
        args.push_to_hub = False  # transformers would push every checkpoint, with what must not leave the machine
        args.resume_from_checkpoint = None if start is None else str(start.path)
        super().__init__(model=model, args=args, **kwargs)
        if args.fp16:
            train_in_float32(self.model)
        logging.getLogger("trl.trainer.grpo_trainer").addFilter(not_an_unscored_row)
        self.num_completions_to_print = args.num_completions_to_print or 0  # TRL's own default is all, every log
        self.run_dir = Path(self.args.output_dir)
        self.kinds: Sequence[str] = [""] * len(self.train_dataset)
        self.rollout_log = RolloutLog(self.run_dir, rollouts_part_mb * 1e6)
        self.watch = CollapseWatch(collapse_patience)
        self.backup = backup
        self.stop_error: InfraError | None = None
        self.collapse: Collapse | None = None
        self.lr_scale = 1.0
        self.steps_without_reward = 0
        self.start = start
        self.add_callback(_StepEnd(self))
        if backup is not None and isinstance(model, str) and Path(model).is_dir():
            backup.policy(Path(model))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log TRL's metrics, the policy's in their own group too."""
        if "loss" in logs:
            logs = dict(logs)
            add_policy_metrics(logs, self._metrics["train"], self.temperature)
        super().log(logs, start_time)

    def run_async(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the reward event loop and wait for it; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.async_loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # Checkpoints

    def start_from(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint with the next `train()`: what was written after it is forgotten."""
        self.start = checkpoint
        self.args.resume_from_checkpoint = None if checkpoint is None else str(checkpoint.path)
        self._step, self._buffered_inputs = 0, None
        if checkpoint is None:
            return
        self.steps_without_reward = checkpoint.state["steps_without_reward"]
        self.lr_scale = min(self.lr_scale, checkpoint.state["lr_scale"])
        self.watch.load_state_dict(checkpoint.state["watch"])
        if checkpoint.path.parent.resolve() == self.run_dir.resolve() and self.accelerator.is_main_process:
            self.rollout_log.cut_back(checkpoint.state["rollouts_bytes"])

    def save_checkpoint(self) -> Path:
        """Save adapter, optimizer and scheduler of this step; returns the folder, for `--resume_from_checkpoint`.

        Raises:
            InfraError: the disk did not take it; the checkpoint before it stands.
        """
        self._save_checkpoint(self.model, trial=None)
        return self.run_dir / f"checkpoint-{self.state.global_step}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = self.run_dir / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # older ones go once this one is whole
        try:
            unseal(folder)
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                seal(folder, self._checkpoint_state())
                if self.backup is not None:
                    self.backup.checkpoint(folder)
                rotate_checkpoints(str(self.run_dir), limit, use_mtime=False)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not is_writing_failure(error):
                raise
            raise InfraError(
                f"{folder} could not be written: {error}; free some space and go on from the checkpoint before it with "
                "--resume_from_checkpoint auto"
            ) from error
        finally:
            self.args.save_total_limit = limit

    def _checkpoint_state(self) -> dict[str, Any]:
        return {
            "rollouts_bytes": self.rollout_log.size,
            "steps_without_reward": self.steps_without_reward,
            "lr_scale": self.lr_scale,
            "watch": self.watch.state_dict(),
            "resumable": not self.args.save_only_model,
        }

    @property
    def between_generations(self) -> bool:
        """Whether every sampled completion has been trained on: only then is a checkpoint all there is to a run."""
        return bool(self._step % (self.args.steps_per_generation * self.num_iterations) == 0)

    def outage(self, *, blind: bool, longest: int) -> int:
        """Count a step towards an outage; returns its length once it is too long, 0 while there is none.

        Args:
            blind (`bool`): nothing in the step could be rewarded.
            longest (`int`): steps in a row from which on it is an outage.
        """
        self.steps_without_reward = self.steps_without_reward + 1 if blind else 0
        return self.steps_without_reward if self.steps_without_reward >= longest else 0

    # The learning rate

    def scale_learning_rate(self) -> None:
        """Bring the learning rate, as a checkpoint restored it, to `lr_scale` times the configured one."""
        restored = 1.0 if self.start is None else self.start.state["lr_scale"]
        factor = self.lr_scale / restored
        if factor == 1.0:
            return
        scheduler = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        scheduler._last_lr = [rate * factor for rate in scheduler.get_last_lr()]
        for group in self.optimizer.param_groups:
            group["lr"] *= factor
            group["initial_lr"] = group.get("initial_lr", self.args.learning_rate) * factor

    # What transformers and TRL would do otherwise

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # transformers looks only after a step that it has trained
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> EpochSampler:
        return EpochSampler(super()._get_train_sampler(dataset), lambda: int(self.state.epoch or 0), self.kinds)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            copy_config(self.run_dir, Path(output_dir or self.run_dir))

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none beside a checkpoint: the card tells results, and `recipes/hub/card.py` writes it with them."""

    def push_to_hub(self, *_: Any, **__: Any) -> str | None:
        """Push what the run left to `hub_model_id`, as `--push_to_hub` and `scripts/push_to_hub.py` do.

        Returns:
            `str`, *optional*: address of the model, on the main process.
        """
        self.save_model()
        if not self.accelerator.is_main_process:
            return None
        return publish(self.run_dir, Publication(self.args.hub_model_id or "", private=self.args.hub_private_repo))


class _StepEnd(TrainerCallback):
    """What the trainer does between steps: saving only when a checkpoint is complete, and stopping with one."""

    def __init__(self, trainer: ResumableGRPOTrainer) -> None:
        self.trainer = trainer
        self._overdue = False

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """Apply a lowered learning rate; keep the very beginning, so that there is always something to roll back to."""
        self.trainer.scale_learning_rate()
        if state.global_step == 0 and self.trainer.watch.patience and self.trainer.start is None:
            self.trainer.save_checkpoint()

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> TrainerControl:
        """Ask for a checkpoint and the end when there is a reason to stop; put a checkpoint off that would lose
        completions that were sampled but not trained on."""
        if self.trainer.stop_error is not None:
            control.should_save = control.should_training_stop = True
        elif self.trainer.collapse is not None:
            control.should_save, control.should_training_stop = False, True
        elif control.should_save or self._overdue:
            control.should_save = self.trainer.between_generations
            self._overdue = not control.should_save
        return control


def is_writing_failure(error: Exception) -> bool:
    """Whether an error while saving is the disk's; torch's writers raise a plain `RuntimeError` for it."""
    return not isinstance(error, RuntimeError) or _WRITER_FAILED.search(str(error)) is not None
