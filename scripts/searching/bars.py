"""The bars of searches: one line each, also where several go on side by side."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

# Told how many more are done, and what to say beside them.
Advance = Callable[[int, str], None]


class Bars:
    """A context manager that shows them while inside, on standard error."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._progress = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def counting(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Show a bar that stays; yields what advances it and says how far its search is.

        Args:
            label (`str`): before the bar.
            total (`int`): its end.
            done (`int`): what an earlier start has done of it.
        """
        task = self._progress.add_task(escape(label), total=total, completed=done, said="")
        try:
            yield lambda count, said: self._progress.update(task, advance=count, said=said)
        finally:
            self._progress.stop_task(task)

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        """Show a bar without an end while inside."""
        task = self._progress.add_task(escape(label), total=None, said="")
        try:
            yield
        finally:
            self._progress.remove_task(task)
