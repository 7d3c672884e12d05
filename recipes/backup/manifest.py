"""A backup's manifest: which files it has, of which run, and where they lie at the URL."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from aflow_ops.errors import UsageError
from recipes.run.checkpoints import new_digest

Kind = Literal["checkpoint", "policy", "results"]
FORMAT = 2
BLOCK_BYTES = 1 << 22
SPENT = re.compile(r"\.spent-\d+\.json")


class SourceChanged(Exception):
    """A local file went away or changed while it was backed up."""


@dataclass(frozen=True)
class FileRecord:
    """One stored file.

    Args:
        size (`int`): bytes.
        digest (`str`): of these bytes.
        at (`str`): where it lies below the backup's URL, if not in its backup's own folder.
    """

    size: int
    digest: str
    at: str = ""

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Read a local file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, new_digest).hexdigest()
            return cls(file.tell(), digest)


@dataclass(frozen=True)
class Origin:
    """The run that backs up.

    Args:
        run_id (`str`): made up at its fresh start, and kept over all its continuations.
        output_dir (`str`): as the run was told.
        command (`tuple[str, ...]`): the recipe's script and flags, without secrets.
    """

    run_id: str
    output_dir: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One complete backup, as its manifest describes it.

    Args:
        number (`int`): its place in the order of writing.
        kind (`str`): `checkpoint`; `results`, what a run leaves at its end; or `policy`, a local model that it trains.
        step (`int`): optimizer steps done.
        origin (`Origin`): the run.
        files (`Mapping[str, FileRecord]`): by path within the backup; the rollouts as parts, the live file's compressed
            like the others.
        spent (`Mapping[str, Mapping]`): records of `recipes/run/spending.py` by file name.
        target (`str`): for a policy, the folder it came from.
        written (`str`): UTC, ISO 8601.
    """

    number: int
    kind: Kind
    step: int
    origin: Origin
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    spent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target: str = ""
    written: str = ""

    @property
    def name(self) -> str:
        """Its folder, and its manifest without the suffix."""
        return f"{self.number:06d}-{self.kind}-{self.step}"

    @property
    def size(self) -> int:
        """Bytes of its files, as stored."""
        return sum(file.size for file in self.files.values())

    def stored(self) -> dict[str, FileRecord]:
        """Return its files by where they lie below the URL."""
        return {self.place(name): record for name, record in self.files.items()}

    def place(self, name: str) -> str:
        """Return where one of its files lies below the URL."""
        return self.files[name].at or f"{self.name}/{name}"

    def to_json(self) -> bytes:
        """Return the manifest."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Entry":
        """Read a manifest.

        Raises:
            ValueError: it is torn, or names files outside its folder.
            UsageError: it is of another format.
        """
        try:
            row = json.loads(content)
            if row.pop("format") != FORMAT:
                raise UsageError("there are backups of another version of this program: use that one, or another URL")
            row["files"] = {name: FileRecord(**record) for name, record in row["files"].items()}
            row["origin"] = Origin(**{**row["origin"], "command": tuple(row["origin"]["command"])})
            entry = cls(**row)
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its manifest cannot be read ({type(error).__name__})") from None
        unsafe = [name for name in (*entry.files, *entry.stored()) if not is_inside(name)]
        unsafe += [name for name in entry.spent if not SPENT.fullmatch(name)]
        if unsafe:
            raise ValueError(f"its manifest names {unsafe[0]!r}, which is not a file of a run")
        return entry


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a file in blocks."""
    return iter(partial(file.read, BLOCK_BYTES), b"")


def is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
