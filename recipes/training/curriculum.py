"""Curricula: an order of training problems instead of a shuffle. Domain shares stay exact and evenly spread.

`order` keeps the sources' own order. `pass_rate` begins each domain with what the base policy does well, by the rows
that `scripts/evaluate.py` left of it (Bengio et al., 2009, https://doi.org/10.1145/1553374.1553380).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError
from data.mixing import Queue, cycled, shuffled_cycles
from data.problem import Problem
from rewards.evaluation import Key, by_problem


def queue_of(curriculum: str, rows: str | None, seed: int) -> Queue | None:
    """Return how a domain's problems follow each other; `None` for a shuffle.

    Args:
        curriculum (`str`): `none`, `order` or `pass_rate`.
        rows (`str`, *optional*): `rows.jsonl` of an evaluation of the base policy on training problems.
        seed (`int`): which problems are chosen for `pass_rate`, and the order of equally easy ones.

    Raises:
        UsageError: the rows cannot be used; names the file and, where there is one, the line.
    """
    if curriculum == "none":
        return None
    if curriculum == "order":
        return cycled
    return EasiestFirst(Path(rows or ""), pass_rates(Path(rows or "")), seed)


@dataclass(frozen=True)
class EasiestFirst:
    """The problems that a shuffle would have chosen, in the order of `by_ease`.

    Args:
        path (`Path`): where the rates are from.
        rates (`Mapping[Key, float]`): mean reward of each problem, by source and id.
        seed (`int`): which problems are chosen, and the order of equally easy ones.
    """

    path: Path
    rates: Mapping[Key, float]
    seed: int

    def __call__(self, problems: Sequence[Problem], count: int) -> list[Problem]:
        """Return a domain's part of an epoch."""
        return by_ease(shuffled_cycles(problems, count, self.seed), self.rates)

    def check_fits(self, problems: Sequence[Problem]) -> None:
        """Refuse rates that say nothing of the training problems: there would be no curriculum.

        Raises:
            UsageError: names the file and how to make one that fits.
        """
        if not any((problem.source, problem.id) in self.rates for problem in problems):
            raise UsageError(
                f"--curriculum_rows {self.path}: rates none of the training problems; evaluate the base policy on the "
                "training part: python scripts/evaluate.py --model MODEL --data data/cache/processed/NAME/train.jsonl "
                "--output DIR"
            )


def by_ease(problems: Sequence[Problem], rates: Mapping[Key, float]) -> list[Problem]:
    """Return the problems with the highest mean reward first; those without one are in the middle."""
    known = [problem for problem in problems if (problem.source, problem.id) in rates]
    unknown = [problem for problem in problems if (problem.source, problem.id) not in rates]
    known.sort(key=lambda problem: -rates[problem.source, problem.id])
    half = (len(known) + 1) // 2
    return [*known[:half], *unknown, *known[half:]]


def pass_rates(path: Path) -> dict[Key, float]:
    """Return the mean reward of each problem, by source and id.

    Raises:
        UsageError: the file is missing or holds no graded rows of `scripts/evaluate.py`.
    """
    try:
        with path.open("rb") as file:
            rows = [_row(path, number, line) for number, line in enumerate(file, start=1) if line.strip()]
    except OSError as error:
        raise UsageError(f"--curriculum_rows {path}: cannot be read: {error}") from None
    rates = by_problem(rows)
    if not rates:
        raise UsageError(f"--curriculum_rows {path}: has no graded row; give the rows.jsonl of scripts/evaluate.py")
    return rates


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        reward = None if row["reward"] is None else float(row["reward"])
        return {"source": str(row["source"]), "id": str(row["id"]), "reward": reward}
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"--curriculum_rows {path}, line {number}: not a row of scripts/evaluate.py, with source, id and reward"
        ) from None
