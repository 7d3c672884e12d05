"""`--backup_url`: every whole checkpoint, and at the end what the run leaves, copied elsewhere while training goes on.

A thread of its own copies. Nothing here fails or holds up a run: what does not work is said once, tried again, and told
at the end. Beside this file, `files.py` has what is copied, `store.py` the layout at the URL and
`scripts/restore.py` the way back.
"""

import re
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from aflow_ops.errors import UsageError
from aflow_ops.secrets import without_secrets
from recipes.backup.attempt import Attempt
from recipes.backup.destination import DEFAULT_KEEP, Destination
from recipes.backup.files import (
    STAGING,
    public_command,
    run_id,
    set_aside,
)
from recipes.backup.jobs import ORDER, Abandoned, Job, Patience
from recipes.backup.manifest import Origin, SourceChanged
from recipes.backup.store import BackupStore

# How long the start of a run waits for the first word from the URL.
CHECK_SECONDS = 20.0


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
        patience: Patience | None = None,
    ) -> None:
        origin = Origin(run_id(run_dir, fresh), str(run_dir), public_command(command))
        self.destination = Destination(url, run_dir, origin, keep)
        self.run_dir, self.shown_url, self.patience = run_dir, self.destination.shown_url, patience or Patience()
        shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        self._changed = threading.Condition()
        self._pending: dict[str, Job] = {}
        self._current: Job | None = None
        self._closing = self._closed = False
        self._broken = False
        self._failures = 0
        self._reason = ""
        self._written: dict[str, str] = {}
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
        elif _same_disk(self.destination.url, self.run_dir):
            _warn(f"--backup_url {self.shown_url} is on the disk of {self.run_dir}: what loses one may lose both")

    def checkpoint(self, folder: Path) -> None:
        """Back up a checkpoint that has just been sealed; takes the place of one that still waits."""
        step = int(folder.name.rpartition("-")[2])
        self._add(Job("checkpoint", step, set_aside(folder, self.run_dir)))

    def policy(self, folder: Path) -> None:
        """Back up a local model that the run trains, once: an adapter is worth nothing without it."""
        self._add(Job("policy", 0, folder))

    def results(self, step: int) -> None:
        """Back up what the run leaves at its end."""
        self._add(Job("results", step, self.run_dir))

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of more steps: the run was rolled back. To be called before local files change."""
        with self._changed:
            if self._current is not None and self._current.kind == "checkpoint" and self._current.step > step:
                self._current.cancelled = True
            waiting = self._pending.get("checkpoint")
            if waiting is not None and waiting.step > step:
                self._drop(self._pending.pop("checkpoint"))
        self._add(Job("forget", step, self.run_dir))

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

    def _add(self, job: Job) -> None:
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

    def _is_over(self, job: Job, error: Exception | None) -> bool:
        """Say what became of an attempt, and keep its job for another one unless it is over."""
        with self._changed:  # `close` reads what is noted here
            over = error is None or job.cancelled or isinstance(error, (SourceChanged, Abandoned))
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

    def _next(self) -> Job | None:
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

    def _attempt(self, job: Job) -> Exception | None:
        """Do the job in a thread that can be left behind when the file system hangs; returns what went wrong."""
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) > 1:
            return TimeoutError("it does not answer")
        attempt = Attempt(self.destination, job, self._unfinished_from())
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

    def _unfinished_from(self) -> int | None:
        """The lowest number of what waits for another attempt; only this thread puts a job back that has one."""
        with self._changed:
            return min((job.number for job in self._pending.values() if job.number is not None), default=None)

    def _look(self) -> Exception | None:
        try:
            self.destination.ours(BackupStore(self.destination.url).entries())
        except Exception as error:  # noqa: BLE001 - file systems raise errors of their own kinds
            return error
        return None

    def _drop(self, job: Job) -> None:
        if job.folder.parent == self.run_dir / STAGING:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _failed(self, error: Exception, *, at_once: bool = False) -> None:
        self._failures += 1
        self._reason = without_secrets(f"{type(error).__name__}: {error}")
        hopeless = at_once or isinstance(error, (TimeoutError, PermissionError, UsageError))
        if not self._broken and (hopeless or self._failures >= self.patience.warn_after):
            self._broken = True
            _warn(f"backup to {self.shown_url} does not work ({self._reason}); training goes on, it is tried again")

    def _succeeded(self, job: Job) -> None:
        self._failures, self._reason = 0, ""
        if job.kind != "forget":
            self._written[job.kind] = job.label
        if self._broken:
            self._broken = False
            print(f"backup to {self.shown_url} works again: {job.label} is there", file=sys.stderr)


def _same_disk(url: str, run_dir: Path) -> bool:
    """Whether a URL is a folder on the disk of the run."""
    folder = Path(url.removeprefix("file://")).expanduser()
    if "://" in str(folder) or re.match(r"[a-z0-9+]+:", url.removeprefix("file://")):
        return False
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return existing.stat().st_dev == run_dir.stat().st_dev


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
