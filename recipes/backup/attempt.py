"""One try at a job of a backup, in a thread that can be left behind."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from recipes.backup.destination import Destination
from recipes.backup.files import (
    LocalFiles,
    RolloutPart,
    has_policy,
    local_files,
    rollout_parts,
    spent,
)
from recipes.backup.jobs import Abandoned, Job
from recipes.backup.manifest import Entry, FileRecord, SourceChanged
from recipes.backup.store import ROLLOUTS, BackupStore
from recipes.run.rollout_log import rollout_files


class Attempt(threading.Thread):
    """One try at a job.

    Args:
        destination (`Destination`): where to.
        job (`Job`): what to do.
        unfinished_from (`int`, *optional*): lowest number of the jobs that wait for another attempt; what they
            have sent is not tidied away.

    Attributes:
        heard (`float`): when the file system last answered.
        abandoned (`bool`): set by the one who no longer waits.
        error (`Exception`, *optional*): what went wrong.
        number, sent: of the job; its own until it has ended, as the job may go on without it.
    """

    def __init__(self, destination: Destination, job: Job, unfinished_from: int | None = None) -> None:
        super().__init__(name="backup-attempt", daemon=True)
        self.destination, self.job, self.unfinished_from = destination, job, unfinished_from
        self.heard, self.abandoned = time.monotonic(), False
        self.number, self.sent = job.number, dict(job.sent)
        self.error: Exception | None = None

    def run(self) -> None:
        """Do the job; anything it raises is kept."""
        try:
            self._do(BackupStore(self.destination.url, self._tick))
        except Exception as error:  # noqa: BLE001 - file systems raise errors of their own kinds
            self.error = error

    def _tick(self) -> None:
        if self.abandoned or self.job.cancelled:
            raise Abandoned
        self.heard = time.monotonic()

    def _do(self, store: BackupStore) -> None:
        job, earlier = self.job, self.destination.ours(store.entries())
        if job.kind == "forget":
            for entry in earlier:
                if entry.kind == "checkpoint" and entry.step > job.step:
                    self._forget(store, entry)
            return
        local = local_files(job.kind, job.folder, self.destination.run_dir)
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
        job, destination = self.job, self.destination
        if self.number is None:
            self.number = destination.new_number(store.next_number())
        target = str(job.folder) if job.kind == "policy" else ""
        assert job.kind != "forget"  # that uploads nothing
        entry = Entry(self.number, job.kind, job.step, destination.origin, target=target)
        for name, path in local.files.items():
            if name in self.sent:
                continue
            stored = store.put(path, f"{entry.name}/{name}")
            if local.sealed.get(name, stored) != stored:
                raise SourceChanged(f"{path} is not what the checkpoint was sealed with")
            self.sent[name] = stored
        files = {name: self.sent[name] for name in local.files} | self._rollouts(store, local, earlier)
        written = datetime.now(UTC).isoformat(timespec="seconds")
        entry = replace(entry, files=files, spent=spent(destination.run_dir), written=written)
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
        digests, file = self.destination.digests, part.path.stat()
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
        kept = kept[max(0, len(kept) + 1 - self.destination.keep) :]
        for other in same:
            if other not in kept:
                store.remove(other.name)
        others = [other for other in earlier if other.kind != entry.kind]
        before = entry.number if self.unfinished_from is None else min(entry.number, self.unfinished_from)
        store.remove_unused([entry, *kept, *others], before)
