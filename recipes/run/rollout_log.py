"""`rollouts.jsonl` and its parts: what a long run writes, cut into files of a bounded size and compressed.

    rollouts-00001.jsonl.gz, rollouts-00002.jsonl.gz, ..., rollouts.jsonl

All of them in this order are the run, and a place in it is a number of uncompressed bytes from its beginning, wherever
the parts end. A part that is closed but not compressed yet, or could not be, is `rollouts-00002.jsonl`. Nothing here
imports torch: readers use `rollout_files` too.
"""

import gzip
import json
import math
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from aflow_ops.errors import InfraError

LIVE = "rollouts.jsonl"
_BLOCK = 1 << 20
_MAX_GZIP_BYTES = (1 << 32) - 1


def rollout_files(live: Path) -> list[Path]:
    """Return the parts of a JSONL file in order, then the file itself; only those that are there.

    Args:
        live (`Path`): `outputs/<run>/rollouts.jsonl`, or any file that may have parts beside it.
    """
    parts = dict(sorted(_parts(live)))  # a compressed one sorts behind its plain twin
    return [*parts.values(), *([live] if live.is_file() else [])]


def _parts(live: Path) -> list[tuple[int, Path]]:
    name = re.compile(re.escape(live.stem) + r"-(\d{5,})" + re.escape(live.suffix) + r"(\.gz)?")
    if not live.parent.is_dir():
        return []
    matches = ((name.fullmatch(path.name), path) for path in live.parent.iterdir())
    return [(int(match[1]), path) for match, path in matches if match]


def _closed(live: Path) -> int:
    return max((number for number, _ in _parts(live)), default=0)


def open_part(path: Path) -> IO[bytes]:
    """Open a part for reading its uncompressed bytes; one that has been compressed in the meantime is found."""
    zipped = path.with_name(path.name + ".gz")
    if path.suffix != ".gz" and not path.exists() and zipped.exists():
        path = zipped
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def part_size(path: Path) -> int:
    """Return a part's uncompressed bytes: of a gzip file what its last four bytes say (RFC 1952)."""
    with suppress(FileNotFoundError):
        if path.suffix != ".gz":
            return path.stat().st_size
    zipped = path if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    with zipped.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def rollouts_size(live: Path) -> int:
    """Return the uncompressed bytes of a file and its parts together."""
    return sum(part_size(path) for path in rollout_files(live))


class RolloutLog:
    """Appends rows to `rollouts.jsonl`; a file that is large enough becomes a part, compressed in a thread.

    A kill at any moment loses nothing but what `cut_back` forgets anyway: files are renamed into place when they are
    whole, and a closed part stays readable until its compressed form is.

    Args:
        run_dir (`Path`): `outputs/<run>`.
        part_bytes (`float`): size of `rollouts.jsonl` from which on the next step's rows begin another.
    """

    def __init__(self, run_dir: Path, part_bytes: float = math.inf) -> None:
        self.live, self.part_bytes = run_dir / LIVE, part_bytes
        self._last_step: int | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._compressing: dict[Path, Future[None]] = {}

    @property
    def size(self) -> int:
        """Uncompressed bytes in the parts and the live file: the place where the next row begins."""
        return rollouts_size(self.live)

    def write(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append the rows of a step."""
        self.live.parent.mkdir(parents=True, exist_ok=True)
        if step != self._last_step and self.live.is_file() and self.live.stat().st_size >= self.part_bytes:
            self._close_part()
        self._last_step = step
        with self.live.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"step": step, **row}, ensure_ascii=False) + "\n")

    def cut_back(self, size: int) -> None:
        """Forget what comes after the first `size` bytes.

        Raises:
            InfraError: the part with that place cannot be read; names it.
        """
        self._wait()
        self._last_step = None
        for path in rollout_files(self.live):
            if path != self.live and part_size(path) > size:
                self._reopen(path, size)
                break
            if path == self.live and path.stat().st_size > size:
                os.truncate(path, size)
            size -= part_size(path)
        self._remove_partials()
        self._compress_closed()

    def remove(self) -> None:
        """Remove the log of an earlier run."""
        self._wait()
        for _, path in _parts(self.live):
            path.unlink()
        self.live.unlink(missing_ok=True)
        self._remove_partials()

    def close(self) -> None:
        """Wait until every closed part is compressed."""
        self._wait()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _close_part(self) -> None:
        number = _closed(self.live) + 1
        self.live.rename(self.live.with_name(f"{self.live.stem}-{number:05d}{self.live.suffix}"))
        self._compress_closed()

    def _compress_closed(self) -> None:
        """Have the thread compress every closed part that is not compressed, those of a killed run included."""
        for _, path in sorted(_parts(self.live)):
            if path.suffix != ".gz" and path not in self._compressing:
                self._thread = self._thread or ThreadPoolExecutor(1, "rollouts")
                self._compressing[path] = self._thread.submit(_compress, path)

    def _wait(self) -> None:
        for future in self._compressing.values():
            future.result()
        self._compressing.clear()

    def _remove_partials(self) -> None:
        for path in self.live.parent.glob(f".{self.live.stem}*.partial"):
            path.unlink()

    def _reopen(self, part: Path, count: int) -> None:
        """Make the first `count` bytes of a part the live file, and remove it with all that came later."""
        partial = self.live.with_name(f".{self.live.name}.partial")
        try:
            with open_part(part) as source, partial.open("wb") as target:
                while count and (block := source.read(min(count, _BLOCK))):
                    target.write(block)
                    count -= len(block)
        except (OSError, EOFError, zlib.error) as error:
            raise InfraError(
                f"{part} cannot be read: {error}; move it and the later parts away to go on without their rows"
            ) from error
        partial.replace(self.live)
        number = next(number for number, path in _parts(self.live) if path == part)
        for later, path in sorted(_parts(self.live), reverse=True):
            if later >= number:  # the reopened one last, to be found again after a kill
                path.unlink()


def _compress(part: Path) -> None:
    """Replace a part by its compressed form; on an error, such as a full disk, it stays as it is.

    So does one of 4 GiB and more, whose size a gzip file could not tell.
    """
    if part.stat().st_size > _MAX_GZIP_BYTES:
        return
    partial, zipped = part.with_name(f".{part.name}.partial"), part.with_name(part.name + ".gz")
    try:
        with part.open("rb") as source, partial.open("wb") as target:
            with gzip.GzipFile("", "wb", 6, target, mtime=0) as packed:
                shutil.copyfileobj(source, packed, _BLOCK)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(zipped)
        part.unlink()
    except OSError as error:
        print(f"warning: {part} stays uncompressed: {error}", file=sys.stderr)
        partial.unlink(missing_ok=True)
