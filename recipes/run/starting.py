"""Where a run begins: anew, or at a checkpoint of an earlier start."""

import sys
from pathlib import Path

from accelerate import PartialState

from aflow_ops.errors import UsageError
from recipes.run.checkpoints import AUTO, Checkpoint, checkpoint_to_resume, latest_checkpoint
from recipes.run.config import changed_settings, read_config
from recipes.settings.chosen import RunConfig


def starting_point(run_dir: Path, asked: str | None) -> Checkpoint | None:
    """Return the checkpoint to go on from; `None` for a fresh start, which never overwrites another run's checkpoints.

    Args:
        run_dir (`Path`): `outputs/<run>`.
        asked (`str`, *optional*): `--resume_from_checkpoint`.

    Raises:
        UsageError: the checkpoint asked for is not whole, or there are checkpoints and none was asked for.
    """
    start = checkpoint_to_resume(asked, run_dir, quiet=not PartialState().is_main_process)
    if start is None and (earlier := latest_checkpoint(run_dir, quiet=True)) and earlier.step > 0:
        raise UsageError(
            f"{run_dir} has {earlier.path.name} of an earlier run: --resume_from_checkpoint {AUTO} goes on from it; "
            "choose another --output_dir, or remove the folder, to start anew"
        )
    return start


def print_resumption(run_dir: Path, start: Checkpoint, max_steps: int, config: RunConfig) -> None:
    """Say where a run goes on, what is left to do, and which settings are not those that it was started with.

    Args:
        run_dir (`Path`): `outputs/<run>`.
        start (`Checkpoint`): where it goes on.
        max_steps (`int`): optimizer steps of the whole run; 0 or less when epochs decide.
        config (`RunConfig`): its settings now.
    """
    said = f"going on from {start.path}" + (f": step {start.step} of {max_steps}" if max_steps > 0 else "")
    if 0 < max_steps <= start.step:
        said += ", nothing left to train; raise --max_steps, or start anew in another --output_dir"
    before = read_config(run_dir)
    changed = changed_settings(before, config) if before else []
    if changed:
        said += f"; changed: {', '.join(changed)}"
    print(said, file=sys.stderr)
