"""Files appear whole or not at all."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from data.problem import DataError

# How long a folder may still be another process's: one that was stopped takes a moment to go.
CLAIM_SECONDS = 5.0


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[str]]:
    """Open a temporary file beside `path` and move it there when the block ends without an error.

    A link keeps its place: the file that it points to is replaced. What is no file at all (`/dev/null`, a pipe) is
    written to as it is.

    Args:
        path (`Path`): the file to write; its folder is created.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Be the only process that writes a folder's files while inside; a kill gives it back.

    Args:
        folder (`Path`): it is created, and removed again if nothing was written into it.

    Raises:
        DataError: another process has claimed it.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    place = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + CLAIM_SECONDS
    try:
        while True:
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DataError(
                        f"{folder} is being written by another process: wait for its end, or choose another folder"
                    ) from None
                time.sleep(0.1)
            except OSError:  # a network file system that locks no folders: nothing is known of others
                break
        yield
    finally:
        os.close(place)
        if new:
            with suppress(OSError):  # something is in it
                folder.rmdir()
