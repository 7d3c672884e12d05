"""Raw rows of a dataset file, one at a time: parquet, JSON lines (plain or gzipped), or one JSON list.

Memory does not grow with the file, but for a JSON list, which is read whole.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data.files import unreadable
from data.problem import DataError

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz")
# Small, because a row of DeepCoder can hold many megabytes of tests.
PARQUET_BATCH = 32
PARQUET_BUFFER = 1 << 20


def iter_raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Yield every row with its number: a line of the file, or a position in it, from 1.

    A line that is no JSON object is yielded as the error that says so.

    Raises:
        DataError: the file is missing, cannot be read, or has another format; names it.
    """
    try:
        if path.name.endswith(".parquet"):
            yield from _parquet(path)
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _lines(path)
        elif path.name.endswith((".json", ".json.gz")):
            yield from _list_or_lines(path)
        else:
            raise DataError(f"{path}: unknown format; known: {', '.join(SUFFIXES)}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise unreadable(path, error) from None


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow  # half a second, and only needed here
    import pyarrow.parquet

    try:
        # Unbuffered it would hold a row group, which can be all of the file.
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER) as file:
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a readable parquet file: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            yield file
    else:
        with path.open(encoding="utf-8-sig") as file:
            yield file


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _object(line)


def _object(line: str) -> dict[str, Any] | ValueError:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return ValueError(f"not valid JSON: {error}")
    return row if isinstance(row, dict) else ValueError(f"must be an object, not {type(row).__name__}")


def _list_or_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    with _opened(path) as file:
        if next((line for line in file if line.strip()), "").lstrip()[:1] != "[":
            yield from _lines(path)
            return
        file.seek(0)
        try:
            rows = json.load(file)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid JSON: {error}") from None
    for number, row in enumerate(rows, start=1):
        yield number, row if isinstance(row, dict) else ValueError(f"must be an object, not {type(row).__name__}")
