"""Finds and reads what a run left in its folder."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.problem import DOMAINS
from recipes.run.config import CONFIG_FILE
from recipes.run.rollout_log import rollout_files
from scripts.reporting.counters import Mean, StepBins
from scripts.reporting.reading import Row, number, read_object, read_settings, read_start
from scripts.reporting.rows import RowsReader

MAX_CARD_BYTES = 100_000
# Columns of metrics.csv that are plotted.
METRICS = (
    "reward", "workflow/valid", "workflow/executed", "workflow/infra_error", "reward/tier_1", "reward/tier_2",
    "reward/tier_3", "reward/tier_4", "reward/tier_5", "entropy", "kl", "wa_grpo/zero_signal_before",
    "wa_grpo/zero_signal_after", "executor/tokens", "executor/cost_usd",
    *(f"replay/{name}" for name in ("share", "dropped", "logprob", "ratio", "clipped", "shaped")),
    *(f"episode/{name}" for name in ("reward", "best_reward", "correct", "valid", "executor_tokens")),
    *(f"episode/pass@{k}" for k in (1, 2, 4, 8)),
    *(f"domain/{name}/{what}" for name in DOMAINS for what in ("shape_entropy", "zero_signal", "best_shape_missed")),
)  # fmt: skip


class Metrics:
    """The columns `METRICS` of metrics.csv over steps.

    Attributes:
        rows (`int`): rows read.
        broken (`bool`): whether the file stopped being CSV at some point.
    """

    def __init__(self) -> None:
        self.rows, self.broken = 0, False
        self.series: dict[str, StepBins[Mean]] = {name: StepBins(Mean) for name in METRICS}

    def read(self, path: Path) -> "Metrics":
        """Read the file, as far as it can be read."""
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            try:
                for cells in csv.DictReader(file):
                    self._add(cells)
            except csv.Error:
                self.broken = True
        return self

    def _add(self, cells: Mapping[str, str]) -> None:
        self.rows += 1
        step = number(cells.get("step"))
        for name, bins in self.series.items():
            value = number(cells.get(name))
            if value is not None:
                bins.at(int(self.rows if step is None else step)).add(value)

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of a column; empty when there is none."""
        return [(step, mean.value) for step, mean in self.series[name].items() if mean.value is not None]


@dataclass(frozen=True)
class RunFiles:
    """Everything that a run folder holds for a report; `None` where a file is missing.

    Args:
        folder (`Path`): the run.
        rollouts (`RowsReader`, *optional*): training rollouts.
        heldout (`RowsReader`, *optional*): held-out rows, before and after training.
        rows (`RowsReader`, *optional*): rows of an evaluation.
        metrics (`Metrics`, *optional*): the trainer's logs.
        summary (`Mapping`, *optional*): summary.json.
        adapter (`Mapping`, *optional*): adapter_config.json.
        config (`Mapping`, *optional*): config.yaml, its values as they are written there.
        card (`str`): the model card, empty when there is none.
        trainer_state (`Mapping`, *optional*): of the last checkpoint.
        present (`Mapping[str, int]`): size in bytes of every known file that is there.
    """

    folder: Path
    rollouts: RowsReader | None
    heldout: RowsReader | None
    rows: RowsReader | None
    metrics: Metrics | None
    summary: Mapping[str, Any] | None
    adapter: Mapping[str, Any] | None
    config: Mapping[str, Any] | None
    card: str
    trainer_state: Mapping[str, Any] | None
    present: Mapping[str, int]

    @property
    def is_evaluation(self) -> bool:
        """Whether it is the output of `scripts/evaluate.py`."""
        return self.rows is not None and self.rollouts is None


JSONL_FILES = ("rollouts.jsonl", "heldout.jsonl", "rows.jsonl")
# One of these makes a folder a run.
RUN_FILES = (*JSONL_FILES, "metrics.csv", "summary.json")
OTHER_FILES = (CONFIG_FILE, "adapter_config.json", "README.md", "training_args.bin")


def sizes(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Return the bytes on disk of those files that are there, the closed parts of a JSONL file counted with it."""
    found = {
        name: rollout_files(folder / name) if name in JSONL_FILES else [folder / name] * (folder / name).is_file()
        for name in names
    }
    return {name: sum(path.stat().st_size for path in files) for name, files in found.items() if files}


def collect(folder: Path, on_bytes: Callable[[int], None] | None = None) -> RunFiles:
    """Read a run folder.

    Args:
        folder (`Path`): a training run or the output of `scripts/evaluate.py`.
        on_bytes (`Callable`, *optional*): called with the bytes read of the JSONL files.
    """
    present = sizes(folder, RUN_FILES + OTHER_FILES)
    readers = {name: RowsReader(folder / name).read(on_bytes) for name in JSONL_FILES if name in present}
    return RunFiles(
        folder=folder,
        rollouts=readers.get("rollouts.jsonl"),
        heldout=readers.get("heldout.jsonl"),
        rows=readers.get("rows.jsonl"),
        metrics=Metrics().read(folder / "metrics.csv") if "metrics.csv" in present else None,
        summary=read_object(folder / "summary.json"),
        adapter=read_object(folder / "adapter_config.json"),
        config=read_settings(folder / CONFIG_FILE),
        card=read_start(folder / "README.md", MAX_CARD_BYTES).decode("utf-8", "replace"),
        trainer_state=_last_trainer_state(folder),
        present=present,
    )


def _last_trainer_state(folder: Path) -> Row | None:
    checkpoints = [path for path in folder.glob("checkpoint-*/trainer_state.json") if path.is_file()]
    return read_object(max(checkpoints, key=_checkpoint_step)) if checkpoints else None


def _checkpoint_step(path: Path) -> int:
    number_part = path.parent.name.rpartition("-")[2]
    return int(number_part) if number_part.isdecimal() else -1
