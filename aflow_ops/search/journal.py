"""`nodes.jsonl`: the search's only state. Rows are appended and never changed; reading it again is resuming."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aflow_ops.errors import UsageError
from aflow_ops.search.node import Node
from data.files import write_atomically

MAX_SHOWN_CHARS = 120


class Journal:
    """The file of nodes. A context manager that holds it open.

    Args:
        folder (`Path`): of the search; it is created.
        settings (`Mapping`): what decides the search's course, kept in `settings.json` beside the nodes.

    Raises:
        UsageError: the folder has a search with other settings, or a damaged row before its last one.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / "nodes.jsonl"
        self.nodes: list[Node] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(folder / "settings.json", settings)
        whole = self._read() if self.path.is_file() else 0
        self._file = self.path.open("r+b" if self.path.is_file() else "w+b")
        self._file.seek(whole)
        self._file.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, nodes: Sequence[Node]) -> None:
        """Add the nodes of one round; they are on disk when this returns.

        Raises:
            ValueError: an id does not follow the one before it.
        """
        for node in nodes:
            if node.id != len(self.nodes):
                raise ValueError(f"node {node.id} cannot follow {len(self.nodes)} nodes")
            self.nodes.append(node)
        self._write(*(node.to_row() for node in nodes))

    def cut(self, count: int) -> None:
        """Forget all nodes but the first `count`: those of a round that was cut off."""
        del self.nodes[count:]
        rows = self.path.read_bytes().splitlines(keepends=True)[:count]
        self._file.seek(sum(map(len, rows)))
        self._file.truncate()

    def _write(self, *rows: Mapping[str, Any]) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._file.write(text.encode("utf-8", "replace"))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Take over the rows of an earlier start; returns how many bytes of the file are whole rows."""
        whole = 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("cut off")
                self.nodes.append(Node.from_row(json.loads(line)))
            except ValueError as error:
                if number == len(lines):  # the search was killed while it wrote
                    break
                raise UsageError(f"{self.path} line {number} is damaged ({error}); choose another --output") from None
            whole += len(line)
        return whole

    def _check_settings(self, path: Path, settings: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(dict(settings)))
        if not path.is_file() and not self.path.is_file():
            with write_atomically(path) as file:
                file.write(json.dumps(now, indent=1) + "\n")
            return
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"{path} cannot be read ({error}); choose another --output") from None
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            told = ", ".join(f"{name} was {_shown(before.get(name))}, is {_shown(now.get(name))}" for name in changed)
            raise UsageError(f"{path.parent} has a search with other settings ({told}); choose another --output")


def _shown(value: Any) -> str:
    """A setting in a message: those that are workflows are long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def read_nodes(folder: Path) -> list[Node]:
    """Return the nodes of a finished search.

    Args:
        folder (`Path`): of the search.
    """
    return [Node.from_row(json.loads(line)) for line in (folder / "nodes.jsonl").read_bytes().splitlines()]
