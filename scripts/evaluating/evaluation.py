"""What is evaluated with what, and the rows of one candidate as they come."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from aflow_ops.executor import ExecutorConfig
from data.problem import Problem
from scripts.evaluating.candidates import Candidate, PolicySettings
from scripts.evaluating.grading import Sample
from scripts.evaluating.journal import Journal, Row, fingerprint
from scripts.evaluating.shards import Shard


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What all candidates are evaluated with.

    Args:
        arguments (`argparse.Namespace`): the command line.
        config (`ExecutorConfig`): the executor's flags.
        policy (`PolicySettings`): what writes workflows, where none are given.
        samples (`Sequence[Problem]`): the problems of all shards, repeated `num_samples` times.
        mine (`range`): the samples of this one.
        console (`Console`): for progress.
    """

    arguments: argparse.Namespace
    config: ExecutorConfig
    policy: PolicySettings
    samples: Sequence[Problem]
    mine: range
    console: Console

    @property
    def shard(self) -> Shard | None:
        """Which part this is; `None` for the whole."""
        found: Shard | None = self.arguments.shard
        return found

    def folder(self, candidate: Candidate, count: int) -> Path:
        """Where a candidate's files go."""
        output: Path = self.arguments.output
        return output if count == 1 else output / candidate.name

    def fingerprint(self, candidate: Candidate) -> str:
        """What decides the candidate's rows here."""
        whole = self.whole(candidate)
        return whole if self.shard is None else fingerprint(whole, str(self.shard))

    def settings(self, candidate: Candidate) -> dict[str, Any]:
        """The flags behind it, to be read."""
        shown = {
            name: value
            for name, value in vars(self.arguments).items()
            if name not in ("output", "shard", "merge", "processes")
        }
        return {**shown, **dataclasses.asdict(self.config), "system": candidate.name}

    def whole(self, candidate: Candidate) -> str:
        """What decides the candidate's rows in all shards."""
        arguments = self.arguments
        settings = arguments.num_samples, arguments.workflow_timeout, arguments.judge, *arguments.operators
        facts = [problem.to_row() for problem in self.samples], dataclasses.asdict(self.config), settings
        return fingerprint(candidate.facts, *facts)


@contextmanager
def bar(evaluation: Evaluation, label: str) -> Any:
    """Show progress over all samples while inside; yields what advances it."""
    with Progress(console=evaluation.console) as progress:
        task = progress.add_task(label, total=len(evaluation.mine))
        yield lambda count: progress.advance(task, count)


def samples_of(evaluation: Evaluation, completions: Mapping[int, str], journal: Journal) -> list[Sample]:
    """Return what the journal has no row of."""
    repeats = evaluation.arguments.num_samples
    return [
        Sample(index, completions[index], evaluation.samples[index], index % repeats)
        for index in evaluation.mine
        if index not in journal.rows
    ]


class Grading:
    """The rows of one candidate as they come, with a bar.

    Args:
        evaluation (`Evaluation`): what all candidates are evaluated with.
        journal (`Journal`): the candidate's.
        label (`str`): of the bar.
    """

    def __init__(self, evaluation: Evaluation, journal: Journal, label: str) -> None:
        self.evaluation, self.journal, self.label = evaluation, journal, label
        self.rows = dict(journal.rows)
        self._bar = bar(evaluation, label)

    def __enter__(self) -> "Grading":
        self._advance = self._bar.__enter__()
        self._advance(len(self.rows))
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def add(self, index: int, row: Row) -> None:
        """Keep a row; a failure of ours is tried again by the next start."""
        self.rows[index] = row
        if row["reward"] is not None:
            self.journal.add_row(index, row)
        self._advance(1)

    def in_order(self) -> list[Row]:
        """All rows."""
        return [self.rows[index] for index in self.evaluation.mine]
