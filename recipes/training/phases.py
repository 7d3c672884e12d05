"""Training from a beginning or a checkpoint to the end, over outages and collapses."""

import sys
from pathlib import Path

from aflow_ops.errors import FatalExecutorError, InfraError
from recipes.run.checkpoints import Checkpoint, drop_checkpoints_after, latest_checkpoint
from recipes.training.collapse import Collapse
from recipes.training.lifecycle import ResumableGRPOTrainer

# After so many roll-backs a collapse ends the run.
MAX_ROLL_BACKS = 3


def train_policy(trainer: ResumableGRPOTrainer, start: Checkpoint | None) -> None:
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
            checkpoint = whole_checkpoint(trainer) or trainer.save_checkpoint()
            where = f"go on from step {trainer.state.global_step} with --resume_from_checkpoint {checkpoint}"
            raise type(error)(f"{error}; {where}") from error
        if trainer.stop_error is not None:
            step = trainer.state.global_step
            where = f"go on from step {step} with --resume_from_checkpoint {trainer.run_dir / f'checkpoint-{step}'}"
            raise type(trainer.stop_error)(f"{trainer.stop_error}; {where}")
        if trainer.collapse is None:
            return
        start = roll_back(trainer, trainer.collapse, last=rolled_back == MAX_ROLL_BACKS)


def whole_checkpoint(trainer: ResumableGRPOTrainer) -> Path | None:
    """Return the checkpoint of the step that a training has come to, if it was saved then: nothing is to be added."""
    newest = latest_checkpoint(trainer.run_dir, quiet=True)
    step = trainer.state.global_step
    return newest.path if newest is not None and newest.step == step and newest.resumable else None


def roll_back(trainer: ResumableGRPOTrainer, collapse: Collapse, *, last: bool) -> Checkpoint:
    """Choose the last checkpoint before a collapse, drop the later ones and lower the learning rate; say so.

    Raises:
        InfraError: it collapsed for the last time, or cannot be rolled back here.
    """
    good = latest_checkpoint(trainer.run_dir, before=collapse.since_step + 1, quiet=True)
    what = (
        f"collapse: {collapse.now:.0%} of the workflows are valid, {collapse.level:.0%} were before step "
        f"{collapse.since_step}"
    )
    if good is None or last or trainer.is_deepspeed_enabled or not good.resumable:
        where = f"; {good.path} is the last good checkpoint" if good else ""
        where += " and holds the adapter only (--save_only_model)" if good and not good.resumable else ""
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
