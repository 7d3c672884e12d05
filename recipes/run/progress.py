"""What a trainer shows and keeps of its logs: one bar instead of the libraries' dictionaries, and `metrics.csv`."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from data.files import write_atomically
from recipes.run.bars import Bar

# What the bar of a GRPO training shows.
GRPO_METRICS = {"reward": "reward {:.2f}", "workflow/valid": "valid {:.0%}", "executor/run_cost_usd": "${:.2f}"}


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
