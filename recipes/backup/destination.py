"""Where the backups of one run go: what all attempts share."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aflow_ops.errors import UsageError
from aflow_ops.secrets import without_secrets
from recipes.backup.manifest import Entry, FileRecord, Origin

DEFAULT_KEEP = 3


@dataclass
class Destination:
    """A URL and the run that is backed up there.

    Args:
        url (`str`): any that fsspec knows, or a folder.
        run_dir (`Path`): `outputs/<run>`.
        origin (`Origin`): who writes, for the manifests.
        keep (`int`): checkpoints kept at the URL.

    Attributes:
        digests (`dict`): of compressed parts of the rollouts, by name, size and time of change, to read each only once.
    """

    url: str
    run_dir: Path
    origin: Origin
    keep: int = DEFAULT_KEEP
    digests: dict[tuple[str, int, int], FileRecord] = field(default_factory=dict)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shown_url(self) -> str:
        """The URL without its credentials."""
        return str(without_secrets(self.url))

    def new_number(self, found: int) -> int:
        """Return a number from `found` on that no attempt of this process has had, not even one left behind."""
        with self._lock:
            self._number = max(found, self._number + 1)
            return self._number

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
