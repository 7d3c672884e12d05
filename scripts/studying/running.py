"""What the studies do alike: runs beside each other, whose rows are kept as soon as they have ended."""

import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

from data.files import claimed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "recipes" / "learning"
# Longest wait for another study that writes rows, table and plot into the same folder, which takes it seconds.
PATIENCE = 300.0


class Row(Protocol):
    """One row of a study."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two rows have in common: what was run, then the seed."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the settings that it was made with."""
        ...


R = TypeVar("R", bound=Row)


class KeptRows(Generic[R]):
    """The rows that there are in a file; several threads and processes may add to them.

    Args:
        file (`Path`): of the rows; nothing else writes files in its folder while a row is added.
        read (`Callable`): reads it; no rows where there is none.
        fingerprint (`Callable`): the present one of what was run, from a row's key without the seed.
        write (`Callable`): writes rows, and the page of them.
    """

    def __init__(
        self,
        file: Path,
        read: Callable[[Path], Sequence[R]],
        fingerprint: Callable[..., str],
        write: Callable[[Sequence[R]], None],
    ) -> None:
        self.rows = read(file)
        self._file, self._read, self._fingerprint, self._write = file, read, fingerprint, write
        self._adding = Lock()
        self._replaced = {(row.key, row.fingerprint) for row in self.rows if not self._is_current(row)}

    def __contains__(self, key: object) -> bool:
        """Whether a row with this key was made with the present settings."""
        return any(row.key == key and self._is_current(row) for row in self.rows)

    def keep(self, row: R) -> None:
        """Add a row to those of the file, drop those that it or changed settings replace, and write rows and page.

        Changed settings replace what was there at the start. What came since is of another study, whose settings may
        be newer than these.

        Raises:
            DataError: the file's folder is being written by another process, and has been for minutes.
        """
        with self._adding, claimed(self._file.parent, PATIENCE):
            others = [old for old in self._read(self._file) if old.key != row.key]
            self.rows = [old for old in others if (old.key, old.fingerprint) not in self._replaced] + [row]
            self._write(self.rows)

    def read_again(self) -> Sequence[R]:
        """Return the rows as they are now, those of other studies too."""
        self.rows = self._read(self._file)
        return self.rows

    def _is_current(self, row: R) -> bool:
        return row.fingerprint == self._fingerprint(*row.key[:-1])


def side_by_side(work: Callable[..., None], jobs: Iterable[Sequence[Any]], at_once: int) -> None:
    """Do all jobs, so many at once; when one fails, or Ctrl-C comes, those that have not begun are not.

    Args:
        work (`Callable`): does one.
        jobs (`Iterable`): the arguments of each.
        at_once (`int`): at least 1.
    """
    with ThreadPoolExecutor(max(1, at_once)) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def commit_of(folder: Path) -> str:
    """Return the commit of a checkout; "unknown" outside of git.

    It is marked where tracked files differ from it, other than what studies themselves write.
    """
    git = ["git", "-C", str(folder)]
    done = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return "unknown"
    written = f":(exclude){PAGE.relative_to(ROOT)}"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", written], capture_output=True, check=False)
    return done.stdout.strip() + ("-dirty" if changed.returncode else "")
