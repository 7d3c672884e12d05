"""Bring a run back from its backup, on this machine or another.

    python scripts/restore.py s3://bucket/run --list
    python scripts/restore.py s3://bucket/run                                     # the newest whole checkpoint
    python scripts/restore.py /content/drive/MyDrive/run --step 200 --output_dir outputs/again

URL is what the run got as --backup_url. Every file is checked against the digest that it was backed up with; a backup
that is torn or damaged is passed over for the one before it, and says so. The checkpoint appears in the run's folder
complete or not at all, with the rollouts and the spending that belong to it; the adapter and the results come too when
the run had ended. A local policy that the run trains (from a warm start) goes back to where it was. Prints the command
that goes on; the resumed run does exactly what it would have done from the local checkpoint.
"""

import argparse
import gzip
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from aflow_ops.errors import InfraError, UsageError
from aflow_ops.secrets import without_secrets
from data.files import write_atomically
from recipes.backup.files import ID_FILE
from recipes.backup.manifest import Entry, FileRecord, is_inside
from recipes.backup.store import BackupStore
from recipes.run.checkpoints import drop_checkpoints_after, latest_checkpoint, read_checkpoint
from recipes.run.command import CommandParser, run_command
from recipes.run.rollout_log import LIVE, RolloutLog, rollout_files
from recipes.settings.urls import check_url

PARTIAL = "_backup/restoring"


@dataclass(frozen=True)
class Restored:
    """What was brought back.

    Args:
        entry (`Entry`): the checkpoint's backup, or the results' where the run kept no checkpoint.
        folder (`Path`): the run's folder.
        policy (`Path`, *optional*): a local policy that does not lie where the run had it.
    """

    entry: Entry
    folder: Path
    policy: Path | None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("url", metavar="URL", help="folder or fsspec URL that the run backed up to")
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="the run's folder [where the run had it]")
    parser.add_argument("--step", type=int, metavar="N", help="restore the checkpoint of this step [the newest]")
    parser.add_argument("--list", action="store_true", help="only show what is there and whether it is whole")
    parser.add_argument("--force", action="store_true", help="replace what is newer, or different, on this machine")
    return parser.parse_args()


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what a file system raises when it cannot be reached into an error of ours.

    Raises:
        InfraError: says what it was.
    """
    try:
        yield
    except (UsageError, InfraError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise InfraError(without_secrets(f"{url} cannot be read: {type(error).__name__}: {error}")) from error


def show(url: str, store: BackupStore) -> None:
    """Print a table of what is at the URL, the newest first.

    Raises:
        UsageError: nothing is there.
    """
    if not store.manifests():
        raise no_backup(url)
    table = Table(title=without_secrets(url), title_justify="left")
    for column in ("step", "what", "written (UTC)", "files", "MB", "state"):
        table.add_column(column, justify="right" if column in ("step", "files", "MB") else "left", overflow="fold")
    for name in reversed(store.manifests()):
        try:
            entry = store.read(name)
        except ValueError as error:
            table.add_row(name.rpartition("-")[2], name, "", "", "", str(error))
            continue
        what = f"policy {entry.target}" if entry.kind == "policy" else entry.kind
        files, size = str(len(entry.files)), f"{entry.size / 1e6:,.1f}"
        state = store.fault(entry) or "whole"
        table.add_row(str(entry.step), what, entry.written.removesuffix("+00:00"), files, size, state)
    Console().print(table)


def no_backup(url: str) -> UsageError:
    """Return the error for a URL without a complete backup."""
    return UsageError(f"{without_secrets(url)} has no complete backup: give the URL that the run got as --backup_url")


def candidates(url: str, store: BackupStore, step: int | None) -> list[Entry]:
    """Return the backups to try, the best first: checkpoints, or else the results of a run that kept none.

    Raises:
        UsageError: there is none, or none of this step; names the steps there are.
    """
    entries = []
    for name in reversed(store.manifests()):
        try:
            entries.append(store.read(name))
        except ValueError as error:
            print(f"warning: {name} is not used: {error}", file=sys.stderr)
    found = [entry for entry in entries if entry.kind == "checkpoint"]
    if not found and step is None:
        found = [entry for entry in entries if entry.kind == "results"]
    if not found:
        raise no_backup(url)
    chosen = [entry for entry in found if step in (None, entry.step)]
    if not chosen:
        there = ", ".join(str(number) for number in sorted({entry.step for entry in found}))
        raise UsageError(f"--step {step}: no such checkpoint in the backup; there are {there}")
    return chosen


def check_local(folder: Path, entry: Entry, force: bool) -> None:
    """Refuse to lose a checkpoint that is on this machine.

    Raises:
        UsageError: names the newer one.
    """
    local = latest_checkpoint(folder, quiet=True)
    if local is None or force or entry.kind != "checkpoint":
        return
    if local.step == entry.step and FileRecord.of(local.path / "complete.json") == entry.files["complete.json"]:
        return
    if local.step >= entry.step:
        raise UsageError(
            f"{folder} has {local.path.name}, which is not older than the backup's checkpoint-{entry.step}: go on from "
            "it with --resume_from_checkpoint auto, choose another --output_dir, or replace it with --force"
        )


def download(store: BackupStore, entry: Entry, folder: Path) -> Path:
    """Fetch the files of a backup, but for parts of the rollouts that the run's folder has already.

    Returns:
        `Path`: where they are, below the run's folder.

    Raises:
        ValueError: one is missing or damaged; says which.
    """
    target = folder / PARTIAL / entry.kind
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, record in entry.files.items():
        if record.at and _is(folder / name, record):
            shutil.copyfile(folder / name, target / name)
        else:
            store.get(entry.place(name), target / name, record)
    live = target / f"{LIVE}.gz"
    if live.is_file():
        with gzip.open(live) as packed, (target / LIVE).open("wb") as file:
            shutil.copyfileobj(packed, file)
        live.unlink()
    if entry.kind == "checkpoint":
        read_checkpoint(target)
    return target


def put_in_place(folder: Path, entry: Entry, fetched: Path) -> None:
    """Move what was downloaded into the run's folder; a checkpoint itself last, so that it never stands alone."""
    RolloutLog(folder).remove()
    for part in rollout_files(fetched / LIVE):
        part.replace(folder / part.name)
    for name, record in entry.spent.items():
        keep_higher(folder / name, record)
    with write_atomically(folder / ID_FILE) as file:
        file.write(entry.origin.run_id)
    if (fetched / "best").is_dir():
        shutil.rmtree(folder / "best", ignore_errors=True)
        (fetched / "best").rename(folder / "best")
    if entry.kind == "checkpoint":
        drop_checkpoints_after(folder, entry.step - 1)
        fetched.rename(folder / f"checkpoint-{entry.step}")
    else:
        for path in (path for path in sorted(fetched.rglob("*")) if path.is_file()):
            target = folder / path.relative_to(fetched)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def keep_higher(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record of spending unless the one on this machine has more: money is not given back."""
    with suppress(OSError, ValueError, KeyError):  # none here, or none that can be read
        here = json.loads(path.read_text(encoding="utf-8"))
        if (here["cost_usd"], here["calls"]) >= (record["cost_usd"], record["calls"]):
            return
    with write_atomically(path) as file:
        json.dump(dict(record), file)


def restore_policy(store: BackupStore, folder: Path, force: bool) -> Path | None:
    """Bring a local policy back to where the run had it.

    Returns:
        `Path`: where it lies instead, if it could not go there.

    Raises:
        UsageError: another policy lies there.
        InfraError: the one in the backup is damaged.
    """
    entry = next((entry for entry in reversed(store.entries()) if entry.kind == "policy"), None)
    if entry is None or all(_is(Path(entry.target) / name, record) for name, record in entry.files.items()):
        return None
    target = Path(entry.target) if is_inside(entry.target) else folder.with_name(f"{folder.name}-policy")
    if target.is_dir() and any(target.iterdir()):
        different = [name for name, record in entry.files.items() if not _is(target / name, record)]
        if not different:
            return None if str(target) == entry.target else target
        if not force:
            raise UsageError(
                f"{target} is not the policy that the run trains ({different[0]} differs): move it away, or replace it "
                "with --force"
            )
    try:
        fetched = download(store, entry, folder)
    except ValueError as error:
        raise InfraError(
            f"the policy that the run trains is not whole in the backup: {error}; put a copy of it in {entry.target} "
            "and restore again"
        ) from None
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(fetched, target)
    return None if str(target) == entry.target else target


def _is(path: Path, record: FileRecord) -> bool:
    return path.is_file() and FileRecord.of(path) == replace(record, at="")


def restore(url: str, store: BackupStore, arguments: argparse.Namespace) -> Restored:
    """Restore the newest whole backup, or the one asked for.

    Raises:
        UsageError: nothing is there, or what is on this machine would be lost.
        InfraError: every backup is damaged.
    """
    for entry in candidates(url, store, arguments.step):
        folder = arguments.output_dir or default_folder(entry)
        check_local(folder, entry, arguments.force)
        try:
            fetched = download(store, entry, folder)
        except ValueError as error:
            print(f"warning: {entry.name} is not used: {error}", file=sys.stderr)
            continue
        policy = restore_policy(store, folder, arguments.force)
        put_in_place(folder, entry, fetched)
        if entry.kind == "checkpoint" and arguments.step is None:
            restore_results(store, folder, entry)
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        return Restored(entry, folder, policy)
    raise InfraError(f"no backup at {without_secrets(url)} is whole; the warnings above say what is wrong with each")


def restore_results(store: BackupStore, folder: Path, checkpoint: Entry) -> None:
    """Bring back what the run left at its end, if it ended after this checkpoint."""
    later = [entry for entry in store.entries() if entry.kind == "results" and entry.number > checkpoint.number]
    for entry in later[::-1]:
        try:
            put_in_place(folder, entry, download(store, entry, folder))
            return
        except ValueError as error:
            print(f"warning: {entry.name} is not used: {error}", file=sys.stderr)


def default_folder(entry: Entry) -> Path:
    """Return where the run had its folder, if that is below the current one, or a folder of its name in `outputs/`."""
    told = entry.origin.output_dir
    name = Path(told).name
    return Path(told) if is_inside(told) else Path("outputs") / (name if is_inside(name) else "restored")


def command_to_go_on(url: str, restored: Restored) -> str:
    """Return the command line that resumes the run."""
    replaced = {
        "--output_dir": str(restored.folder),
        "--resume_from_checkpoint": "auto",
        "--backup_url": without_secrets(url),
    }
    if restored.policy is not None:
        replaced["--model_name_or_path"] = str(restored.policy)
    words = list(restored.entry.origin.command) or ["recipes/grpo_mixed.py"]
    kept, skip = [], False
    for word in words:
        flag = word.partition("=")[0].replace("-", "_").replace("__", "--", 1)
        if not skip and flag not in replaced:
            kept.append(word)
        skip = flag in replaced and "=" not in word
    flags = [word for pair in replaced.items() for word in pair]
    return shlex.join(["accelerate", "launch", *kept, *flags])


def main() -> None:
    """List, or restore and say how to go on."""
    arguments = parse_arguments()
    check_url("URL", arguments.url)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TimeRemainingColumn())
    with reaching(arguments.url):
        store = BackupStore(arguments.url)
        if arguments.list:
            show(arguments.url, store)
            return
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("restoring", total=None)
            store.tick = lambda: progress.advance(task, 1 << 22)
            restored = restore(arguments.url, store, arguments)
    entry, folder = restored.entry, restored.folder
    print(f"restored {entry.kind} of step {entry.step}, {entry.size / 1e6:,.1f} MB, to {folder}", file=sys.stderr)
    if entry.kind == "checkpoint":
        print(command_to_go_on(arguments.url, restored))


if __name__ == "__main__":
    sys.exit(run_command(main))
