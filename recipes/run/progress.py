"""What a person sees during a run: one bar a phase instead of the libraries' dictionaries, and `metrics.csv`."""

import csv
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from data.files import write_atomically

CONSOLE = Console(stderr=True)
# Without a terminal (a log file, CI) a bar is a line after so many seconds, then after twice as many, up to the latter.
LINE_EVERY_SECONDS = 20.0
MAX_LINE_EVERY_SECONDS = 320.0
# What the bar of a GRPO training shows.
GRPO_METRICS = {"reward": "reward {:.2f}", "workflow/valid": "valid {:.0%}", "executor/run_cost_usd": "${:.2f}"}


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


class BarCallback(TrainerCallback):
    """Shows a trainer's progress as one bar.

    Args:
        label (`str`): name of the phase.
        shown (`Mapping[str, str]`): what to show of each log, as `{metric: format}`, e.g. `{"loss": "loss {:.3f}"}`.
    """

    def __init__(self, label: str, shown: Mapping[str, str]) -> None:
        self.label, self.shown = label, shown
        self._parts: dict[str, str] = {}
        self.bar: Bar | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar = Bar(self.label, state.max_steps, visible=state.is_world_process_zero)
        self.bar.__enter__()
        self.bar.update(done=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(done=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the latest metrics."""
        for name, form in self.shown.items():
            if (value := (logs or {}).get(name)) is not None:
                self._parts[name] = form.format(value)
        if self.bar is not None and self._parts:
            status = "  ".join(self._parts[name] for name in self.shown if name in self._parts)
            self.bar.update(done=state.global_step, status=status)

    def close(self) -> None:
        """Close the bar, also after an error."""
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None


@contextmanager
def progress_of(trainer: Trainer, label: str, shown: Mapping[str, str] = GRPO_METRICS) -> Iterator[None]:
    """Replace the trainer's own output by one bar while inside.

    Args:
        trainer (`Trainer`): not training yet.
        label (`str`): name of the phase.
        shown (`Mapping[str, str]`): what the bar shows of each log, as for `BarCallback`.
    """
    quiet(trainer)
    callback = BarCallback(label, shown)
    trainer.add_callback(callback)
    try:
        yield
    finally:
        callback.close()


def quiet(trainer: Trainer) -> None:
    """Keep the trainer from printing its logs and a bar of its own."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


class MetricsFile(TrainerCallback):
    """Keeps `metrics.csv` in the run's folder: one row a log, a column for every metric ever logged."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write the file anew, from the trainer's own history: a run that was resumed has all of it."""
        if not state.is_world_process_zero or not logs:
            return
        rows = [{"step": log["step"], **log} for log in state.log_history]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with write_atomically(self.path) as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
