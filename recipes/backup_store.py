"""What lies at a backup URL, and how it gets there and back whole.

    000007-checkpoint-20/...                    the files of one backup
    000007-checkpoint-20.json                   its manifest, written last: without it nothing is there
    rollouts/000007-rollouts-00001.jsonl.gz     a part of the rollouts that backup 7 sent, named by later ones too
    rollouts/000007-rollouts.jsonl.gz           what was in the live file, up to the checkpoint

Object stores cannot rename, so a backup exists from the moment its manifest does. Numbers rise in the order of writing,
the highest is the newest, and none is used by two attempts of which one may still be writing.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import fsspec
from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from aflow_ops.errors import UsageError
from recipes.checkpoints import new_digest
from recipes.redaction import without_secrets
from recipes.rollout_log import open_part

Kind = Literal["checkpoint", "policy", "results"]
BLOCK_BYTES = 1 << 22
# What an object store is sent at a time, so that a slow line is heard of often; S3 takes 5 MB or more, 10,000 times.
UPLOAD_BYTES = 1 << 23
FORMAT = 2
ROLLOUTS = "rollouts"
NUMBERED = re.compile(r"(\d{6,})-(checkpoint|policy|results)-\d+(\.json)?")
NUMBERED_PART = re.compile(r"(\d{6,})-rollouts(-\d+)?\.jsonl\.gz")
SPENT = re.compile(r"\.spent-\d+\.json")
# Packages of the protocols that people use most; fsspec names the others itself.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


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
        digest = new_digest()
        with path.open("rb") as file:
            for block in _blocks(file):
                digest.update(block)
            return cls(file.tell(), digest.hexdigest())


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
        spent (`Mapping[str, Mapping]`): records of `recipes/spending.py` by file name.
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


def is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def check_url(flag: str, url: str) -> None:
    """Refuse a URL that can never work here. Opens no connection.

    Raises:
        UsageError: an unknown protocol, or its package is not installed; names the package.
    """
    protocol = get_protocol(url)
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise UsageError(
            f"{flag} {without_secrets(url)}: unknown protocol {protocol!r}; give a folder or a URL that fsspec knows, "
            "such as s3://bucket/run or gs://bucket/run"
        ) from None
    except ImportError as error:
        package = PACKAGES.get(protocol)
        install = f"pip install {package}" if package else str(error)
        raise UsageError(f"{flag} {without_secrets(url)}: {protocol}:// needs a package: {install}") from None


class BackupStore:
    """Files and manifests at a URL.

    Args:
        url (`str`): of any fsspec file system, or a folder.
        tick (`Callable`): called between blocks; may raise to give up.
    """

    def __init__(self, url: str, tick: Callable[[], None] = lambda: None) -> None:
        options = {"auto_mkdir": True} if get_protocol(url) in ("file", "local") else {}
        self.fs, root = url_to_fs(url, skip_instance_cache=True, **options)
        self.root = root.rstrip("/")
        self.tick = tick

    def next_number(self) -> int:
        """Return a number above that of every backup, unfinished ones included."""
        found = [NUMBERED.fullmatch(name) for name in self._listed("")]
        return 1 + max((int(match[1]) for match in found if match), default=0)

    def manifests(self) -> list[str]:
        """Return the names of all complete backups, the oldest first."""
        names = [name for name in self._listed("") if NUMBERED.fullmatch(name) and name.endswith(".json")]
        return sorted((name.removesuffix(".json") for name in names), key=lambda name: int(name.partition("-")[0]))

    def read(self, name: str) -> Entry:
        """Return one backup's manifest.

        Raises:
            ValueError: it is damaged; says how.
        """
        entry = Entry.from_json(self.fs.cat_file(f"{self.root}/{name}.json"))
        if entry.name != name:
            raise ValueError(f"its manifest is that of {entry.name}")
        return entry

    def entries(self) -> list[Entry]:
        """Return all readable manifests, the oldest first."""
        found = []
        for name in self.manifests():
            self.tick()
            try:
                found.append(self.read(name))
            except (ValueError, FileNotFoundError):
                continue  # torn, or removed since it was listed
        return found

    def parts(self) -> set[str]:
        """Return where the stored parts of rollouts lie, those that no manifest names included."""
        return {f"{ROLLOUTS}/{name}" for name in self._listed(ROLLOUTS)}

    def fault(self, entry: Entry) -> str | None:
        """Return what is wrong with a backup as far as sizes tell, or `None`."""
        self.fs.invalidate_cache()
        for name, record in entry.stored().items():
            self.tick()
            try:
                now = self.fs.info(f"{self.root}/{name}")["size"]
            except FileNotFoundError:
                return f"{name} is missing"
            if now != record.size:
                return f"{name} has {now} bytes instead of {record.size}"
        return None

    # Writing

    def put(self, source: Path, name: str, count: int | None = None) -> FileRecord:
        """Store a file and compare its size with what was sent.

        Args:
            source (`Path`): the local file, or the part of the rollouts.
            name (`str`): where, below the URL.
            count (`int`, *optional*): compress so many uncompressed bytes of it, instead of storing it as it is.

        Raises:
            SourceChanged: the local file cannot be read.
            OSError: or any other error of the file system.
        """
        try:
            file = source.open("rb") if count is None else open_part(source)
        except OSError as error:
            raise SourceChanged(f"{source}: {error}") from None
        digest, size = new_digest(), 0
        with file, self._writer(name) as out:
            for block in _blocks(file) if count is None else _compressed(file, count):
                self.tick()
                out.write(block)
                digest.update(block)
                size += len(block)
        self.tick()
        self.fs.invalidate_cache()
        stored = self.fs.info(f"{self.root}/{name}")["size"]
        if stored != size:
            raise OSError(f"{name} has {stored} bytes there instead of {size}")
        return FileRecord(size, digest.hexdigest())

    def commit(self, entry: Entry) -> None:
        """Write the manifest, which makes the backup exist, and read it back."""
        self.tick()
        content = entry.to_json()
        with self._writer(f"{entry.name}.json") as out:
            out.write(content)
        self.fs.invalidate_cache()
        if self.fs.cat_file(f"{self.root}/{entry.name}.json") != content:
            raise OSError(f"{entry.name}.json reads back differently")

    def remove(self, name: str) -> None:
        """Remove a backup, its manifest first."""
        self.tick()
        for path in (f"{self.root}/{name}.json", f"{self.root}/{name}"):
            try:
                self.fs.rm(path, recursive=True)
            except FileNotFoundError:
                continue

    def remove_unused(self, kept: Iterable[Entry], before: int) -> None:
        """Remove what has a number below `before` and no manifest to speak of it: unfinished or no longer needed."""
        kept = list(kept)
        used = {entry.name for entry in kept} | {place for entry in kept for place in entry.stored()}
        for name in {name.removesuffix(".json") for name in self._listed("")} - used:
            match = NUMBERED.fullmatch(name)
            if match and int(match[1]) < before:
                self.remove(name)
        for place in self.parts() - used:
            match = NUMBERED_PART.fullmatch(PurePosixPath(place).name)
            if match and int(match[1]) < before:
                self.tick()
                self.fs.rm(f"{self.root}/{place}")

    # Reading

    def get(self, name: str, target: Path, record: FileRecord) -> None:
        """Fetch a file and verify it.

        Raises:
            ValueError: it is missing or not what was stored.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = new_digest()
        try:
            with self.fs.open(f"{self.root}/{name}", "rb") as file, target.open("wb") as out:
                for block in _blocks(file):
                    self.tick()
                    out.write(block)
                    digest.update(block)
        except FileNotFoundError:
            raise ValueError(f"{name} is missing") from None
        size = target.stat().st_size
        if size != record.size:
            raise ValueError(f"{name} has {size} bytes instead of {record.size}")
        if digest.hexdigest() != record.digest:
            raise ValueError(f"{name} is damaged")

    def _listed(self, folder: str) -> list[str]:
        self.fs.invalidate_cache()
        try:
            paths = self.fs.ls(f"{self.root}/{folder}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return [PurePosixPath(path).name for path in paths]

    def _writer(self, name: str) -> Any:
        path = f"{self.root}/{name}"
        try:
            return self.fs.open(path, "wb", block_size=UPLOAD_BYTES)
        except FileNotFoundError:  # a file system with real folders
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            return self.fs.open(path, "wb", block_size=UPLOAD_BYTES)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(partial(file.read, BLOCK_BYTES), b"")


def _compressed(file: IO[bytes], count: int) -> Iterator[bytes]:
    """Yield the first bytes of a part of the rollouts as those of a gzip file, one block for each that is read."""
    packed = zlib.compressobj(wbits=31)
    while count:
        try:
            block = file.read(min(BLOCK_BYTES, count))
        except (OSError, EOFError, zlib.error) as error:
            raise SourceChanged(f"a part of the rollouts cannot be read: {error}") from None
        if not block:
            raise SourceChanged("the rollouts became shorter")
        count -= len(block)
        yield packed.compress(block)
    yield packed.flush()
