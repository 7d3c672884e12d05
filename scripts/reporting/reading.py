"""Reads the files of a run that may be old, cut off or written by somebody else: whatever cannot be read is counted.

Nothing here trusts a value's type. Text stays text: what makes it safe to show is in `svg.element` and the template.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

import yaml

from recipes.run.rollout_log import open_part

Row = dict[str, Any]

# A rollout with a long trace has some 100 kB; a longer line than this is not one of ours.
MAX_LINE_BYTES = 8_000_000
MAX_JSON_BYTES = 4_000_000
# A run's settings have some 2 kB; a hostile file of this size takes a second or two.
MAX_YAML_BYTES = 64_000
# Characters that would move or hide the text around them: control characters and the bidirectional overrides.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


class Place(NamedTuple):
    """Where a row starts: which of the files, and how many uncompressed bytes are before it there."""

    file: int
    offset: int


def read_lines(
    files: Sequence[Path], on_bytes: Callable[[int], None] | None = None
) -> Iterator[tuple[Place, Row | None]]:
    """Yield the lines of JSONL files without keeping any; blank lines are skipped, a damaged file ends as one bad line.

    Args:
        files (`Sequence[Path]`): the parts of a file in order, gzipped or not.
        on_bytes (`Callable`, *optional*): called with the number of bytes read on disk, now and then.

    Yields:
        `tuple[Place, dict | None]`: where a line starts and the object in it; `None` when there is none.
    """
    for number, path in enumerate(files):
        start = 0
        with open_part(path) as file:
            on_disk, seen = getattr(file, "fileobj", file).tell, 0
            try:
                for start, chunk in _chunks(file):
                    if on_bytes is not None:
                        now = on_disk()
                        on_bytes(now - seen)
                        seen = now
                    if chunk is None or chunk.strip():
                        yield Place(number, start), None if chunk is None else _object_in(chunk)
            except (OSError, EOFError, zlib.error):
                yield Place(number, start), None


def _chunks(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines of a file with the bytes before each; `None` for one that is too long."""
    offset = 0
    while chunk := file.readline(MAX_LINE_BYTES):
        start, offset = offset, offset + len(chunk)
        complete = chunk.endswith(b"\n") or len(chunk) < MAX_LINE_BYTES
        while not chunk.endswith(b"\n") and len(chunk) == MAX_LINE_BYTES:
            chunk = file.readline(MAX_LINE_BYTES)
            offset += len(chunk)
        yield start, chunk if complete else None


def rows_at(files: Sequence[Path], places: Iterable[Place]) -> dict[Place, Row]:
    """Return the objects that start at some places; empty ones for what is not there any more. Reads each file once."""
    rows: dict[Place, Row] = {}
    for number, wanted in groupby(sorted(set(places)), key=lambda place: place.file):
        with open_part(files[number]) as file:
            for place in wanted:
                try:
                    file.seek(place.offset)
                    rows[place] = _object_in(file.readline(MAX_LINE_BYTES)) or {}
                except (OSError, EOFError, zlib.error):
                    rows[place] = {}
    return rows


def read_start(path: Path, limit: int) -> bytes:
    """Return the first `limit` bytes of a file, none when there is no file or it cannot be read."""
    try:
        if path.is_file():  # not a pipe, which would be waited for
            with path.open("rb") as file:
                return file.read(limit)
    except OSError:
        pass
    return b""


def read_settings(path: Path) -> Row | None:
    """Return the mapping in a YAML file, its values as they are written.

    Returns:
        `dict`, *optional*: `None` when there is no file or no mapping in it, when it is longer than `MAX_YAML_BYTES`,
        and when it has aliases.
    """
    content = read_start(path, MAX_YAML_BYTES + 1)
    if len(content) > MAX_YAML_BYTES:
        return None
    try:
        value = yaml.load(content, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _PlainLoader(yaml.BaseLoader):
    """Makes text, lists and mappings; refuses aliases, by which a few lines stand for a value that fills the memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("alias")
        return super().compose_node(parent, index)


def read_object(path: Path) -> Row | None:
    """Return the object in a JSON file, `None` when there is no file or no object in it."""
    return _object_in(read_start(path, MAX_JSON_BYTES))


def _object_in(text: bytes) -> Row | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def number(value: Any) -> float | None:
    """Return a finite number, also one written as text; `None` for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        converted = float(value)
    except (ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any, limit: int) -> str:
    """Return at most `limit` characters that can be shown; an invisible one is spelled out, as in `\\u202e`.

    Args:
        value (`Any`): text, `None` (empty), or anything else, which is shown as JSON.
        limit (`int`): the rest is cut off and replaced by an ellipsis.
    """
    shown = _as_text(value)
    cut = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", cut.replace("\r\n", "\n"))


def one_line(value: Any, limit: int) -> str:
    """Like `text`, with runs of white space as one space."""
    return text(" ".join(_as_text(value)[: 8 * limit].split()), limit)


def _as_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:  # a few levels less than what could not be read
        return "…"
