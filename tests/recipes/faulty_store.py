"""File systems that misbehave on demand, for fsspec: `faulty://anything`."""

import random
import threading
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FaultyFileSystem(MemoryFileSystem):
    """Files in memory, behind a network that can be made to fail.

    Class attributes:
        failing: chance that an operation raises.
        read_only: writing and removing raise `PermissionError`.
        hang: while not set, operations do not return.
        broken: opening a file for writing raises if its path contains this.
        held: like `hang`, but for the next opening for writing of a path that contains the text only.
        block_sizes: what files were opened with.
        dies_at: raise for ever once so many files were opened for writing.
    """

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing: ClassVar[float] = 0.0
    read_only: ClassVar[bool] = False
    hang: ClassVar[threading.Event] = threading.Event()
    broken: ClassVar[str | None] = None
    held: ClassVar[tuple[str, threading.Event] | None] = None
    block_sizes: ClassVar[set[Any]] = set()
    dies_at: ClassVar[int | None] = None
    writes: ClassVar[int] = 0
    dice: ClassVar[random.Random] = random.Random(0)

    @classmethod
    def reset(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.failing, cls.read_only, cls.dies_at, cls.writes = 0.0, False, None, 0
        cls.broken = cls.held = None
        cls.block_sizes.clear()
        cls.hang.set()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, str):
            path = path.removeprefix("faulty:")
        return super()._strip_protocol(path)

    def _network(self) -> None:
        type(self).hang.wait()
        if self.dice.random() < self.failing:
            raise ConnectionError("the network is down")

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        self._network()
        if "w" in mode:
            type(self).writes += 1
            self.block_sizes.add(kwargs.get("block_size"))
            if self.held is not None and self.held[0] in path:
                hold, type(self).held = self.held[1], None
                hold.wait()
            if self.broken is not None and self.broken in path:
                raise ConnectionError("the connection broke")
            if self.read_only:
                raise PermissionError("read-only")
            if self.dies_at is not None and self.writes > self.dies_at:
                raise ConnectionError("gone")
        return super()._open(path, mode, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._network()
        return super().ls(path, detail, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._network()
        return super().info(path, **kwargs)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        self._network()
        if self.read_only:
            raise PermissionError("read-only")
        super().rm(path, recursive=recursive, maxdepth=maxdepth)


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
