"""What lies at a backup URL, and how it gets there and back whole.

    000007-checkpoint-20/...                    the files of one backup
    000007-checkpoint-20.json                   its manifest, written last: without it nothing is there
    rollouts/000007-rollouts-00001.jsonl.gz     a part of the rollouts that backup 7 sent, named by later ones too
    rollouts/000007-rollouts.jsonl.gz           what was in the live file, up to the checkpoint

Object stores cannot rename, so a backup exists from the moment its manifest does. Numbers rise in the order of writing,
the highest is the newest, and none is used by two attempts of which one may still be writing.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from recipes.backup.manifest import BLOCK_BYTES, Entry, FileRecord, SourceChanged, blocks
from recipes.run.checkpoints import new_digest
from recipes.run.rollout_log import open_part

# What an object store is sent at a time, so that a slow line is heard of often; S3 takes 5 MB or more, 10,000 times.
UPLOAD_BYTES = 1 << 23
ROLLOUTS = "rollouts"
NUMBERED = re.compile(r"(\d{6,})-(checkpoint|policy|results)-\d+(\.json)?")
NUMBERED_PART = re.compile(r"(\d{6,})-rollouts(-\d+)?\.jsonl\.gz")


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
            for block in blocks(file) if count is None else _compressed(file, count):
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
                for block in blocks(file):
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
