"""How far a phase is: a live bar on a terminal, a line now and then elsewhere. Needs no torch."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

CONSOLE = Console(stderr=True)
# Without a terminal (a log file, CI) a bar is a line after so many seconds, then after twice as many, up to the latter.
LINE_EVERY_SECONDS = 20.0
MAX_LINE_EVERY_SECONDS = 320.0


@contextmanager
def watched_rows() -> Iterator[Callable[[str], Callable[[int], None]]]:
    """Yield what begins a line for a new piece of work and returns what counts its rows; for `data/preparing.py`."""
    columns = TextColumn("{task.description:<24}"), BarColumn(bar_width=24), TextColumn("{task.completed} rows")
    with Progress(*columns, TimeElapsedColumn(), console=CONSOLE) as progress:

        def begin(label: str) -> Callable[[int], None]:
            for task in progress.tasks:
                progress.update(task.id, total=task.completed)
            number = progress.add_task(label, total=None)
            return lambda count: progress.advance(number, count)

        yield begin
        for task in progress.tasks:
            progress.update(task.id, total=task.completed)


class Bar:
    """One phase's progress: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, label: str, total: int, *, visible: bool = True) -> None:
        self.label, self.total, self.done, self.visible = label, total, 0, visible
        self._status = ""
        self._last_line, self._line_every = time.monotonic(), LINE_EVERY_SECONDS
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Bar":
        if self.visible and CONSOLE.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description:<20}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[status]}"),
                console=CONSOLE,
            )
            self._progress.start()
            self._task = self._progress.add_task(self.label, total=self.total, status="")
        return self

    def update(self, done: int | None = None, status: str | None = None) -> None:
        """Move to `done` (one further by default) and show `status` behind the bar."""
        self.done = self.done + 1 if done is None else done
        self._status = self._status if status is None else status
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self.done, status=self._status)
        elif self.visible and time.monotonic() - self._last_line > self._line_every:
            self._line_every = min(2 * self._line_every, MAX_LINE_EVERY_SECONDS)
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        print(f"{self.label}: {self.done}/{self.total} {self._status}".rstrip(), file=sys.stderr, flush=True)

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()
        elif self.visible:
            self._print_line()
