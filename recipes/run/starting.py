"""Where a run begins: anew, or at a checkpoint of an earlier start."""

import sys
from pathlib import Path

from aflow_ops.errors import UsageError
from recipes.run.checkpoints import AUTO, Checkpoint, checkpoint_to_resume, latest_checkpoint
from recipes.run.config import changed_settings, read_config
from recipes.settings.parse import Arguments


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
