"""Checkpoints that are whole or not there.

A checkpoint is sealed last, with a manifest of its files' sizes and digests. One that a kill or a full disk left
unfinished has none, and is not used.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError
from data.files import write_atomically

MANIFEST = "complete.json"
AUTO = "auto"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Args:
        path (`Path`): its folder, `checkpoint-<step>`.
        step (`int`): optimizer steps done.
        state (`Mapping[str, Any]`): what the recipe keeps beside what the Trainer keeps.
    """

    path: Path
    step: int
    state: Mapping[str, Any]

    @property
    def resumable(self) -> bool:
        """Whether it has what a training goes on with; `--save_only_model` leaves that out."""
        return bool(self.state.get("resumable", True))


def seal(folder: Path, state: Mapping[str, Any]) -> None:
    """Declare a checkpoint whole.

    Args:
        folder (`Path`): with all its files written.
        state (`Mapping[str, Any]`): JSON to keep with it.
    """
    files = {
        str(path.relative_to(folder)): [path.stat().st_size, _digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    with write_atomically(folder / MANIFEST) as file:
        json.dump({"state": dict(state), "files": files}, file, indent=1)


def unseal(folder: Path) -> None:
    """Declare a checkpoint unfinished, before any of its files is written again."""
    (folder / MANIFEST).unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Check a checkpoint and return it.

    Raises:
        ValueError: it is not whole; says what is wrong.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, state = manifest["files"], manifest["state"]
    except FileNotFoundError:
        raise ValueError("it was never finished") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its {MANIFEST} cannot be read ({type(error).__name__})") from None
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if path.stat().st_size != size:
            raise ValueError(f"{name} has {path.stat().st_size} bytes instead of {size}")
        if _digest(path) != digest:
            raise ValueError(f"{name} is damaged")
    return Checkpoint(folder, _step(folder), state)


def checkpoint_folders(run_dir: Path) -> list[Path]:
    """Return all checkpoint folders of a run, whole or not, the newest first."""
    folders = [path for path in run_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(folders, key=_step, reverse=True)


def latest_checkpoint(run_dir: Path, *, before: int | None = None, quiet: bool = False) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run, or `None`; says on standard error which are passed over, and why.

    Args:
        run_dir (`Path`): `outputs/<run>`.
        before (`int`, *optional*): only checkpoints of fewer steps.
        quiet (`bool`): say nothing.
    """
    for folder in checkpoint_folders(run_dir):
        if before is not None and _step(folder) >= before:
            continue
        try:
            return read_checkpoint(folder)
        except ValueError as error:
            if not quiet:
                print(f"warning: {folder} is not used: {error}", file=sys.stderr)
    return None


def checkpoint_to_resume(asked: str | None, run_dir: Path, *, quiet: bool = False) -> Checkpoint | None:
    """Return the checkpoint that `--resume_from_checkpoint` asks for.

    Args:
        asked (`str`, *optional*): a folder, or `"auto"` for the newest whole one of the run, if there is any.
        run_dir (`Path`): `outputs/<run>`.
        quiet (`bool`): say nothing about checkpoints that are passed over.

    Raises:
        UsageError: the folder asked for is no whole checkpoint, names the one to use instead; or it holds the adapter
            only.
    """
    checkpoint = _asked_checkpoint(asked, run_dir, quiet) if asked is not None else None
    if checkpoint is not None and not checkpoint.resumable:
        raise UsageError(
            f"--resume_from_checkpoint {asked}: {checkpoint.path} was saved with --save_only_model: it has no "
            "optimizer and no schedule to go on with; it can be evaluated, and a run without that flag can be resumed"
        )
    return checkpoint


def _asked_checkpoint(asked: str, run_dir: Path, quiet: bool) -> Checkpoint | None:
    if asked == AUTO:
        return latest_checkpoint(run_dir, quiet=quiet)
    folder = Path(asked)
    if not folder.is_dir():
        raise UsageError(f"--resume_from_checkpoint {asked}: no such folder; '{AUTO}' finds the newest checkpoint")
    try:
        return read_checkpoint(folder)
    except ValueError as error:
        other = latest_checkpoint(folder.parent, quiet=True)
        instead = f"use {other.path}" if other else "there is no whole one beside it"
        raise UsageError(f"--resume_from_checkpoint {asked} is not whole: {error}; {instead}") from None


def drop_checkpoints_after(run_dir: Path, step: int) -> None:
    """Remove every checkpoint of more steps than `step`."""
    for folder in checkpoint_folders(run_dir):
        if _step(folder) > step:
            unseal(folder)
            shutil.rmtree(folder)


def best_of(run_dir: Path) -> dict[str, Any] | None:
    """Return `{"step", "reward"}` of the best adapter that a run kept, or `None`."""
    try:
        best: dict[str, Any] = json.loads((run_dir / "best" / "best.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return best


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2]) if re.search(r"-\d+$", folder.name) else 0


def new_digest() -> "hashlib.blake2b":
    """Return an empty digest of the kind that seals a checkpoint's files."""
    return hashlib.blake2b(digest_size=16)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()
