"""What a backup is made of on this machine: the files of a checkpoint, a policy or the results, and the rollouts.

A checkpoint's are linked aside as soon as it is sealed, with the rollouts as they are then: the run goes on to remove
old checkpoints, to close a part of the rollouts, to compress it or to roll back, and the links do not see it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from aflow_ops.secrets import is_secret_name, without_secrets
from data.files import write_atomically
from recipes.backup.manifest import SPENT, Entry, FileRecord, Kind, SourceChanged
from recipes.run.checkpoints import MANIFEST
from recipes.run.role_adapters import NAMES_FILE, own_adapters, read_role_adapters
from recipes.run.rollout_log import LIVE, part_size, rollout_files, rollouts_size

# Below the run's folder, under a name that `push_to_hub` leaves out.
ID_FILE = "_backup/id"
STAGING = "_backup/staged"
# What a run or a warm start leaves in its folder and is backed up from it. Everything else (logs, locks, sockets,
# caches, training_args.bin) is not.
RESULT_FILES = (
    "config.yaml", "summary.json", "metrics.csv", "heldout.jsonl", "reward_curve.png", "report.html", "README.md",
    "*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "generation_config.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*",
    "warm_start.sha256", NAMES_FILE,
)  # fmt: skip
BEST_FILES = ("best/**/*",)
# What the searches of grpo_search.py found, and the iterations of dpo_search.py sampled.
FOUND_FILES = ("search/*/*.json", "search/*/*.jsonl", "iteration-*/trajectories.jsonl", "iteration-*/metrics.csv")


@dataclass(frozen=True)
class LocalFiles:
    """The files of one backup.

    Args:
        files (`Mapping[str, Path]`): by their names in the backup.
        sealed (`Mapping[str, FileRecord]`): what those of a checkpoint must be.
        live (`Path`): the rollouts' live file.
        rollouts_bytes (`int`): uncompressed bytes of the rollouts that belong to it.
    """

    files: Mapping[str, Path]
    live: Path
    sealed: Mapping[str, FileRecord] = field(default_factory=dict)
    rollouts_bytes: int = 0


@dataclass(frozen=True)
class RolloutPart:
    """A part of the rollouts, as it is stored.

    Args:
        name (`str`): in the backup, always that of a compressed file.
        path (`Path`): here.
        count (`int`, *optional*): bytes of it that belong to the backup and are to be compressed; `None` for all of one
            that is compressed already.
    """

    name: str
    path: Path
    count: int | None


def local_files(kind: Kind, folder: Path, run_dir: Path) -> LocalFiles:
    """Return the files of a backup.

    Args:
        kind (`str`): what it is of.
        folder (`Path`): the checkpoint, the policy or the run.
        run_dir (`Path`): the run's.

    Raises:
        SourceChanged: the checkpoint is no longer whole.
    """
    aside = folder if folder.parent == run_dir / STAGING else run_dir
    live = aside / LIVE
    if kind == "policy":
        return LocalFiles(_found(folder, RESULT_FILES), live)
    if kind == "results":
        roles = own_adapters(read_role_adapters(run_dir / NAMES_FILE))
        names = (*RESULT_FILES, *(f"{role}/adapter_*" for role in roles), *BEST_FILES, *FOUND_FILES)
        return LocalFiles(_found(folder, names), live, rollouts_bytes=rollouts_size(live))
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceChanged(f"{folder / MANIFEST}: {error}") from None
    sealed = {name: FileRecord(size, digest) for name, (size, digest) in manifest["files"].items()}
    files = {name: folder / name for name in (*sealed, MANIFEST)} | _found(aside, BEST_FILES)
    return LocalFiles(files, live, sealed, manifest["state"]["rollouts_bytes"])


def rollout_parts(live: Path, size: int) -> Iterator[RolloutPart]:
    """Yield the parts with the first `size` bytes of the rollouts.

    Raises:
        SourceChanged: there are fewer bytes.
    """
    for path in rollout_files(live):
        whole = part_size(path)
        count = min(size, whole)
        if count == 0:
            continue
        name = f"{path.name.removesuffix('.gz')}.gz" if count == whole else f"{LIVE}.gz"
        yield RolloutPart(name, path, None if count == whole and path.suffix == ".gz" else count)
        size -= count
    if size:
        raise SourceChanged(f"{live} and its parts are {size} bytes shorter than their checkpoint")


def set_aside(folder: Path, run_dir: Path) -> Path:
    """Link a checkpoint, and the best adapter and the rollouts as they are now, to where the run does not touch them.

    Returns:
        `Path`: the new folder, or the checkpoint itself where the disk has no hard links.
    """
    target = run_dir / STAGING / f"{folder.name}.{uuid4().hex[:8]}"
    try:
        _link(folder, target)
        _link(run_dir / "best", target / "best")
        for path in rollout_files(run_dir / LIVE):
            try:
                os.link(path, target / path.name)
            except FileNotFoundError:  # compressed meanwhile
                os.link(f"{path}.gz", target / f"{path.name}.gz")
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        return folder
    return target


def _link(folder: Path, target: Path) -> None:
    """Link all files of a folder into another."""
    for path in folder.rglob("*"):
        if path.is_file():
            link = target / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)


def _found(folder: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """Return the files of a folder that have one of these names."""
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {path.relative_to(folder).as_posix(): path for path in paths}


def has_policy(entries: Sequence[Entry], files: Mapping[str, Path]) -> bool:
    """Whether the newest backup of the policy has these files."""
    newest = next((entry for entry in reversed(entries) if entry.kind == "policy"), None)
    if newest is None or set(newest.files) != set(files):
        return False
    return all(FileRecord.of(files[name]) == record for name, record in newest.files.items())


def spent(run_dir: Path) -> dict[str, dict[str, float]]:
    """Return the records of what the run has paid."""
    records = {}
    for path in run_dir.glob(".spent-*.json"):
        with suppress(OSError, ValueError):  # nothing paid yet
            if SPENT.fullmatch(path.name):
                records[path.name] = json.loads(path.read_text(encoding="utf-8"))
    return records


def run_id(run_dir: Path, fresh: bool) -> str:
    """Return the run's id; a fresh start makes one up."""
    path = run_dir / ID_FILE
    if fresh or not path.is_file():
        with write_atomically(path) as file:
            file.write(uuid4().hex)
    return path.read_text(encoding="utf-8")


def public_command(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without secret flags and their values, and without secrets in the other values."""
    kept, secret = [], False
    for word in command:
        flag = word.startswith("--") and is_secret_name(word[2:].partition("=")[0].replace("-", "_"))
        if not secret and not flag:
            kept.append(without_secrets(word))
        secret = flag and "=" not in word
    return tuple(kept)
