"""Compare evaluations: one table, with the paired difference of each run to the first.

    python scripts/compare.py outputs/baselines outputs/eval_before outputs/eval_after
    python scripts/compare.py outputs/eval_* --markdown outputs/comparison.md

RUN is an --output folder of scripts/evaluate.py, or one with several of them inside. Differences are over the problems
that both runs graded, with 95 % bootstrap intervals over problems; the star marks those that exclude 0.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_ops.errors import UsageError
from data.files import write_atomically
from recipes.run.command import CommandParser, run_command
from rewards.evaluation import Key, by_problem
from rewards.statistics import paired_bootstrap

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One evaluation: its name, its summary, and its rewards by problem."""

    name: str
    summary: Mapping[str, Any]
    rewards: Mapping[Key, float]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of scripts/evaluate.py")
    parser.add_argument("--markdown", type=Path, help="also write the table into this file")
    return parser.parse_args()


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read every evaluation in the folders.

    Raises:
        UsageError: a folder has none, or its files cannot be read; names it.
    """
    runs = []
    for folder in folders:
        inside = (
            [folder]
            if (folder / "rows.jsonl").is_file()
            else sorted(path.parent for path in folder.glob("*/rows.jsonl"))
        )
        if not inside:
            raise UsageError(f"{folder}: no rows.jsonl; give an --output folder of scripts/evaluate.py")
        runs += [_read(path, path.name if path == folder else f"{folder.name}/{path.name}") for path in inside]
    return runs


def _read(folder: Path, name: str) -> Run:
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        with (folder / "rows.jsonl").open(encoding="utf-8") as file:
            rewards = by_problem([_slim(json.loads(line)) for line in file])
        return Run(name, summary, rewards)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: not a whole evaluation: {type(error).__name__}: {error}") from None


def _slim(row: Row) -> Row:
    return {name: row[name] for name in ("source", "id", "reward")}


def table_of(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Return the header and one line of cells a run."""
    metrics = sorted({(source, name) for run in runs for source, names in _metrics(run).items() for name in names})
    header = ["run", "problems", "reward", "vs first", "correct", "valid"]
    header += [f"{source} {name}" for source, name in metrics] + ["$ a problem", "tokens", "p50 s"]
    return header, [_cells(run, runs[0], metrics) for run in runs]


def _metrics(run: Run) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = run.summary.get("metrics", {})
    return found


def _cells(run: Run, first: Run, metrics: Sequence[tuple[str, str]]) -> list[str]:
    summary, per_problem = run.summary, run.summary.get("per_problem", {})
    scores = [_metrics(run).get(source, {}).get(name) for source, name in metrics]
    return [
        run.name,
        str(summary["n"]),
        _number(summary["reward"]),
        "" if run is first else difference(first, run),
        _number(summary["correct"]),
        _number(summary["valid"]),
        *(_number(score and score["mean"]) for score in scores),
        _number(per_problem.get("cost_usd"), ".5f"),
        _number(per_problem.get("tokens"), ".0f"),
        _number(summary.get("latency_seconds", {}).get("p50"), ".2f"),
    ]


def difference(first: Run, run: Run) -> str:
    """Return the mean paired difference of rewards with its interval, and on how many problems if not on all."""
    shared = sorted(first.rewards.keys() & run.rewards.keys())
    if not shared:
        return "no shared problem"
    before, after = ([rewards[key] for key in shared] for rewards in (first.rewards, run.rewards))
    gain, low, high = paired_bootstrap(before, after, seed=0)
    star = "*" if low > 0 or high < 0 else ""
    count = "" if len(shared) == len(first.rewards) == len(run.rewards) else f" on {len(shared)}"
    return f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]{star}{count}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return the table in Markdown."""
    rows = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def main() -> None:
    """Read, compare, print."""
    arguments = parse_arguments()
    header, lines = table_of(read_runs(arguments.runs))
    console = Console()
    table = Table()
    for column in header:
        table.add_column(column, justify="left" if column == "run" else "right", overflow="fold")
    for line in lines:
        table.add_row(*line)
    if console.is_terminal:
        console.print(table)
    else:  # a pipe or a file has no width: nothing may be cut off
        print(markdown(header, lines), end="")
    if arguments.markdown is not None:
        with write_atomically(arguments.markdown) as file:
            file.write(markdown(header, lines))


if __name__ == "__main__":
    sys.exit(run_command(main))
