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

    Raises:
        DataError: what should be its folder is a file.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    path = path.resolve()
    _make(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{folder} is a file, or lies in one; name a folder") from None


def path_of(text: str) -> Path:
    """Return the path that somebody wrote; `~` is their home, in a YAML file too, where no shell reads it.

    Raises:
        DataError: it is empty, as a variable is that nobody set: it would mean the current folder.
    """
    if not text.strip():
        raise DataError("a path is empty; name a file or a folder")
    return Path(os.path.expanduser(text))  # noqa: PTH111 (pathlib's raises where there is no such user)


def unreadable(path: Path, error: Exception) -> DataError:
    """Say why a text file cannot be read, and what to do about it.

    Args:
        path (`Path`): the file.
        error (`Exception`): what reading it raised.
    """
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path} is a folder; name a file")
    if not isinstance(error, UnicodeDecodeError):
        return DataError(f"{path}: cannot be read: {error}")
    head = error.object[:4]
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")):
        return DataError(f"{path}: is compressed; unpack it first")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return DataError(f"{path}: is UTF-16; save it as UTF-8")
    shown = error.object[max(0, error.start - 20) : error.start + 20].decode("utf-8", "replace")
    return DataError(f"{path}: is not UTF-8 (byte {error.object[error.start]:#x} in {shown!r}); save it as UTF-8")


@contextmanager
def claimed(folder: Path, patience: float = CLAIM_SECONDS) -> Iterator[None]:
    """Be the only process that writes a folder's files while inside; a kill gives it back.

    Args:
        folder (`Path`): it is created, and removed again if nothing was written into it.
        patience (`float`): seconds to wait for another process that has claimed it.

    Raises:
        DataError: another process has claimed it, or it is a file.
    """
    new = not folder.exists()
    _make(folder)
    place = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + patience
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
