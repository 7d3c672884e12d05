"""`--backup_url`: every whole checkpoint, and at the end what the run leaves, copied elsewhere while training goes on.

A thread of its own copies. Nothing here fails or holds up a run: what does not work is said once, tried again, and told
at the end. `recipes/backup_files.py` has what is copied, `recipes/backup_store.py` the layout at the URL and
`scripts/restore.py` the way back.
"""

import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from aflow_ops.errors import UsageError
from recipes.backup_files import (
    STAGING,
    LocalFiles,
    RolloutPart,
    has_policy,
    local_files,
    public_command,
    rollout_parts,
    run_id,
    set_aside,
    spent,
)
from recipes.backup_store import (
    ROLLOUTS,
    BackupStore,
    Entry,
    FileRecord,
    Kind,
    Origin,
    SourceChanged,
    check_url,
)
from recipes.redaction import without_secrets
from recipes.rollout_log import rollout_files

DEFAULT_KEEP = 3
# How long the start of a run waits for the first word from the URL, and an interrupted run for what is on its way.
CHECK_SECONDS, INTERRUPTED_SECONDS = 20.0, 5.0


@dataclass(frozen=True)
class Patience:
    """How the thread deals with a store that fails.

    Args:
        stall_seconds (`float`): without a block getting through, an attempt is given up.
        first_delay (`float`): before the next attempt; it doubles up to `last_delay`.
        last_delay (`float`): longest wait between attempts.
        warn_after (`int`): failed attempts in a row, none of which got a file through, before it is said.
    """

    stall_seconds: float = 300.0
    first_delay: float = 2.0
    last_delay: float = 300.0
    warn_after: int = 3


class _Abandoned(Exception):
    """The attempt was given up, or its checkpoint rolled back."""


@dataclass
class _Job:
    """Something to do at the URL: a backup of one kind, or forgetting the checkpoints after `step`.

    Attempts go on where the one before failed: under its `number`, after the files that it `sent`.
    """

    kind: Kind | Literal["forget"]
    step: int
    folder: Path
    cancelled: bool = False
    number: int | None = None
    sent: dict[str, FileRecord] = field(default_factory=dict)

    @property
    def label(self) -> str:
        names = {"checkpoint": f"checkpoint-{self.step}", "policy": f"the policy {self.folder}"}
        return names.get(self.kind, "the results" if self.kind == "results" else "a roll-back")


# Which job goes first.
ORDER = ("forget", "checkpoint", "policy", "results")


class Backup:
    """Copies a run to a URL, from the main process. Its methods return at once and never raise, except `check`.

    Args:
        url (`str`): any that fsspec knows, or a folder.
        run_dir (`Path`): `outputs/<run>`.
        keep (`int`): checkpoints kept at the URL.
        fresh (`bool`): the run starts anew instead of going on.
        command (`Sequence[str]`): the recipe's script and flags, for `scripts/restore.py` to print.
        patience (`Patience`): retries.
    """

    def __init__(
        self,
        url: str,
        run_dir: Path,
        *,
        keep: int = DEFAULT_KEEP,
        fresh: bool = True,
        command: Sequence[str] = (),
        patience: Patience = Patience(),
    ) -> None:
        self.url, self.run_dir, self.keep, self.patience = url, run_dir, keep, patience
        self.shown_url = without_secrets(url)
        self.origin = Origin(run_id(run_dir, fresh), str(run_dir), public_command(command))
        shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        self._changed = threading.Condition()
        self._pending: dict[str, _Job] = {}
        self._current: _Job | None = None
        self._closing = self._closed = False
        self._broken = False
        self._failures = 0
        self._reason = ""
        self._written: dict[str, str] = {}
        self._number = 0
        self.digests: dict[tuple[str, int, int], FileRecord] = {}
        self._hung: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._work, name="backup", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Look at the URL before the run: refuse another run's backups, warn when it cannot be reached.

        Raises:
            UsageError: there are backups of another run, which this one would remove one by one.
        """
        outcome: list[Exception | None] = []
        looking = threading.Thread(target=lambda: outcome.append(self._look()), daemon=True)
        looking.start()
        looking.join(CHECK_SECONDS)
        error = outcome[0] if outcome else TimeoutError(f"no answer in {CHECK_SECONDS:g} s")
        if isinstance(error, UsageError):
            raise error
        if error is not None:
            self._failed(error, at_once=True)
        elif _same_disk(self.url, self.run_dir):
            _warn(f"--backup_url {self.shown_url} is on the disk of {self.run_dir}: what loses one may lose both")

    def checkpoint(self, folder: Path) -> None:
        """Back up a checkpoint that has just been sealed; takes the place of one that still waits."""
        step = int(folder.name.rpartition("-")[2])
        self._add(_Job("checkpoint", step, set_aside(folder, self.run_dir)))

    def policy(self, folder: Path) -> None:
        """Back up a local model that the run trains, once: an adapter is worth nothing without it."""
        self._add(_Job("policy", 0, folder))

    def results(self, step: int) -> None:
        """Back up what the run leaves at its end."""
        self._add(_Job("results", step, self.run_dir))

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of more steps: the run was rolled back. To be called before local files change."""
        with self._changed:
            if self._current is not None and self._current.kind == "checkpoint" and self._current.step > step:
                self._current.cancelled = True
            waiting = self._pending.get("checkpoint")
            if waiting is not None and waiting.step > step:
                self._drop(self._pending.pop("checkpoint"))
        self._add(_Job("forget", step, self.run_dir))

    def close(self, wait_seconds: float) -> None:
        """Wait for what is on its way, for so long at most, and say what is not backed up."""
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if wait_seconds > 1 and self._unfinished():
                print(f"backup: up to {wait_seconds:g} s for {' and '.join(self._unfinished())}", file=sys.stderr)
            while self._unfinished() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            missing = self._unfinished()
            self._pending.clear()
            self._closed = True
            if self._current is not None:
                self._current.cancelled = True
            self._changed.notify_all()
        if missing:
            reason = self._reason or f"not through after {wait_seconds:g} s"
            where = f"it is in {self.run_dir}, copy it from there before the machine goes"
            _warn(f"not backed up to {self.shown_url}: {' and '.join(missing)} ({reason}); {where}")
        elif self._written:
            print(f"backup: {' and '.join(self._written.values())} at {self.shown_url}", file=sys.stderr)
        shutil.rmtree(self.run_dir / STAGING, ignore_errors=True)

    # The thread

    def _add(self, job: _Job) -> None:
        with self._changed:
            if job.kind in self._pending:
                self._drop(self._pending[job.kind])
            self._pending[job.kind] = job
            self._changed.notify_all()

    def _unfinished(self) -> list[str]:
        jobs = [job for job in (self._current, *self._pending.values()) if job is not None]
        return list(dict.fromkeys(job.label for job in jobs if job.kind != "forget" and not job.cancelled))

    def _work(self) -> None:
        delay = self.patience.first_delay
        while (job := self._next()) is not None:
            sent = len(job.sent)
            error = self._attempt(job)
            if len(job.sent) > sent:
                self._failures, delay = 0, self.patience.first_delay
            if self._is_over(job, error):
                delay = self.patience.first_delay
                continue
            self._pause(delay)
            delay = min(2 * delay, self.patience.last_delay)

    def _is_over(self, job: _Job, error: Exception | None) -> bool:
        """Say what became of an attempt, and keep its job for another one unless it is over."""
        with self._changed:  # `close` reads what is noted here
            over = error is None or job.cancelled or isinstance(error, (SourceChanged, _Abandoned))
            if error is None:
                self._succeeded(job)
            elif not over:
                self._failed(error)
            elif isinstance(error, SourceChanged) and not job.cancelled and job.kind not in self._pending:
                _warn(f"{job.label} is not backed up: {error}")
            self._current = None
            if over or self._closed or job.kind in self._pending:
                self._drop(job)
            else:
                self._pending[job.kind] = job
            self._changed.notify_all()
        return over

    def _next(self) -> _Job | None:
        """Wait for a job; `None` when there will be no more."""
        with self._changed:
            while not self._pending:
                if self._closed:
                    return None
                self._changed.wait()
            kind = next(kind for kind in ORDER if kind in self._pending)
            self._current = self._pending.pop(kind)
            return self._current

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt: less once the run is over and somebody waits."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (left := deadline - time.monotonic()) > 0:
                if self._closing:
                    left = min(left, self.patience.first_delay)
                    deadline = time.monotonic() + left
                self._changed.wait(left)

    def _attempt(self, job: _Job) -> Exception | None:
        """Do the job in a thread that can be left behind when the file system hangs; returns what went wrong."""
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) > 1:
            return TimeoutError("it does not answer")
        attempt = _Attempt(self, job)
        attempt.start()
        while attempt.is_alive():
            left = attempt.heard + self.patience.stall_seconds - time.monotonic()
            if left <= 0:
                attempt.abandoned = True
                job.number, job.sent = None, {}  # the next attempt stays clear of this one's files
                self._hung.append(attempt)
                return TimeoutError(f"no answer in {self.patience.stall_seconds:g} s")
            attempt.join(left)
        job.number, job.sent = attempt.number, attempt.sent
        return attempt.error

    def new_number(self, found: int) -> int:
        """Return a number from `found` on that no attempt of this process has had, not even one left behind."""
        with self._changed:
            self._number = max(found, self._number + 1)
            return self._number

    def unfinished_from(self, number: int) -> int:
        """Return the lowest number of what waits for another attempt, or `number` if that is lower."""
        with self._changed:
            return min([number, *(job.number for job in self._pending.values() if job.number is not None)])

    def _look(self) -> Exception | None:
        try:
            self.ours(BackupStore(self.url).entries())
        except Exception as error:  # noqa: BLE001 - file systems raise errors of their own kinds
            return error
        return None

    def ours(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return this run's backups among those at the URL.

        Raises:
            UsageError: another run has trained into the same URL.
        """
        others = [entry for entry in entries if entry.origin.run_id != self.origin.run_id and entry.step > 0]
        if others:
            raise UsageError(
                f"--backup_url {self.shown_url} has backups of another run ({others[-1].origin.output_dir}, step "
                f"{others[-1].step}): go on from them after `python scripts/restore.py {self.shown_url}`, or choose "
                "another URL"
            )
        return [entry for entry in entries if entry.origin.run_id == self.origin.run_id]

    def _drop(self, job: _Job) -> None:
        if job.folder.parent == self.run_dir / STAGING:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _failed(self, error: Exception, *, at_once: bool = False) -> None:
        self._failures += 1
        self._reason = without_secrets(f"{type(error).__name__}: {error}")
        hopeless = at_once or isinstance(error, (TimeoutError, PermissionError, UsageError))
        if not self._broken and (hopeless or self._failures >= self.patience.warn_after):
            self._broken = True
            _warn(f"backup to {self.shown_url} does not work ({self._reason}); training goes on, it is tried again")

    def _succeeded(self, job: _Job) -> None:
        self._failures, self._reason = 0, ""
        if job.kind != "forget":
            self._written[job.kind] = job.label
        if self._broken:
            self._broken = False
            print(f"backup to {self.shown_url} works again: {job.label} is there", file=sys.stderr)


class _Attempt(threading.Thread):
    """One try at a job.

    Attributes:
        heard (`float`): when the file system last answered.
        abandoned (`bool`): set by the one who no longer waits.
        error (`Exception`, *optional*): what went wrong.
        number, sent: of the job; its own until it has ended, as the job may go on without it.
    """

    def __init__(self, backup: Backup, job: _Job) -> None:
        super().__init__(name="backup-attempt", daemon=True)
        self.backup, self.job = backup, job
        self.heard, self.abandoned = time.monotonic(), False
        self.number, self.sent = job.number, dict(job.sent)
        self.error: Exception | None = None

    def run(self) -> None:
        """Do the job; anything it raises is kept."""
        try:
            self._do(BackupStore(self.backup.url, self._tick))
        except Exception as error:  # noqa: BLE001 - file systems raise errors of their own kinds
            self.error = error

    def _tick(self) -> None:
        if self.abandoned or self.job.cancelled:
            raise _Abandoned
        self.heard = time.monotonic()

    def _do(self, store: BackupStore) -> None:
        job, earlier = self.job, self.backup.ours(store.entries())
        if job.kind == "forget":
            for entry in earlier:
                if entry.kind == "checkpoint" and entry.step > job.step:
                    self._forget(store, entry)
            return
        local = local_files(job.kind, job.folder, self.backup.run_dir)
        if job.kind == "policy" and has_policy(earlier, local.files):
            return
        written = self._upload(store, local, earlier)
        with suppress(Exception):  # the backup is there; an append-only store keeps the old ones beside it
            self._tidy(store, written, earlier)

    def _forget(self, store: BackupStore, entry: Entry) -> None:
        """Remove a checkpoint; an append-only store never does, and gets a newer one soon."""
        for _ in range(3):
            with suppress(OSError):
                return store.remove(entry.name)

    def _upload(self, store: BackupStore, local: LocalFiles, earlier: Sequence[Entry]) -> Entry:
        """Store the files and then the manifest."""
        job, backup = self.job, self.backup
        if self.number is None:
            self.number = backup.new_number(store.next_number())
        target = str(job.folder) if job.kind == "policy" else ""
        entry = Entry(self.number, job.kind, job.step, backup.origin, target=target)
        for name, path in local.files.items():
            if name in self.sent:
                continue
            stored = store.put(path, f"{entry.name}/{name}")
            if local.sealed.get(name, stored) != stored:
                raise SourceChanged(f"{path} is not what the checkpoint was sealed with")
            self.sent[name] = stored
        files = {name: self.sent[name] for name in local.files} | self._rollouts(store, local, earlier)
        written = datetime.now(UTC).isoformat(timespec="seconds")
        entry = replace(entry, files=files, spent=spent(backup.run_dir), written=written)
        store.commit(entry)
        return entry

    def _rollouts(self, store: BackupStore, local: LocalFiles, earlier: Sequence[Entry]) -> dict[str, FileRecord]:
        """Store those parts of the rollouts that no earlier backup has; returns all."""
        there = store.parts() if local.rollouts_bytes else set()
        known = {(file.size, file.digest): file for old in earlier for file in old.files.values() if file.at in there}
        closed, files = len(rollout_files(local.live)), {}
        for part in rollout_parts(local.live, local.rollouts_bytes):
            self._tick()
            if part.name not in self.sent:
                stored = self._part(store, part, known)
                if len(rollout_files(local.live)) != closed:  # only where the disk has no links
                    raise OSError(f"{local.live} was closed as a part while it was read")
                self.sent[part.name] = stored
            files[part.name] = self.sent[part.name]
        return files

    def _part(self, store: BackupStore, part: RolloutPart, known: Mapping[tuple[int, str], FileRecord]) -> FileRecord:
        """Store a part of the rollouts unless it is known; a compressed one is read once in the life of a run."""
        digests, file = self.backup.digests, part.path.stat()
        key = part.name, file.st_size, file.st_mtime_ns
        if part.count is None:
            whole = digests.get(key) or FileRecord.of(part.path)
            digests[key] = whole
            if (whole.size, whole.digest) in known:
                return known[whole.size, whole.digest]
        at = f"{ROLLOUTS}/{self.number:06d}-{part.name}"
        return replace(store.put(part.path, at, part.count), at=at)

    def _tidy(self, store: BackupStore, entry: Entry, earlier: Sequence[Entry]) -> None:
        """Remove what a new backup makes superfluous: older ones beyond `keep`, rolled-back ones, unfinished ones."""
        same = [other for other in earlier if other.kind == entry.kind]
        kept = [other for other in same if entry.kind == "checkpoint" and other.step < entry.step]
        kept = kept[max(0, len(kept) + 1 - self.backup.keep) :]
        for other in same:
            if other not in kept:
                store.remove(other.name)
        others = [other for other in earlier if other.kind != entry.kind]
        store.remove_unused([entry, *kept, *others], self.backup.unfinished_from(entry.number))


@contextmanager
def open_backup(
    url: str | None,
    run_dir: Path,
    *,
    wait_seconds: float = 120.0,
    keep: int | None = None,
    fresh: bool = True,
    main_process: bool = True,
) -> Iterator[Backup | None]:
    """Back up while inside, and wait for the rest on the way out; `None` without a URL and in other processes.

    Args:
        url (`str`, *optional*): `--backup_url`.
        run_dir (`Path`): `outputs/<run>`.
        wait_seconds (`float`): longest wait at the end.
        keep (`int`, *optional*): checkpoints to keep there.
        fresh (`bool`): the run starts anew.
        main_process (`bool`): whether this is the process that backs up.

    Raises:
        UsageError: the URL can never work, or has backups of another run.
    """
    if url is not None:
        check_url("--backup_url", url)
    if url is None or not main_process:
        yield None
        return
    backup = Backup(url, run_dir, keep=keep or DEFAULT_KEEP, fresh=fresh, command=sys.argv)
    backup.check()
    try:
        yield backup
    except KeyboardInterrupt:
        wait_seconds = min(wait_seconds, INTERRUPTED_SECONDS)
        raise
    finally:
        backup.close(wait_seconds)


def _same_disk(url: str, run_dir: Path) -> bool:
    """Whether a URL is a folder on the disk of the run."""
    folder = Path(url.removeprefix("file://")).expanduser()
    if "://" in str(folder) or re.match(r"[a-z0-9+]+:", url.removeprefix("file://")):
        return False
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return existing.stat().st_dev == run_dir.stat().st_dev


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
