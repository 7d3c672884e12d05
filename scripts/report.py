"""Write a run's report: one HTML file that needs nothing else, for a browser, a phone or a printer.

    python scripts/report.py outputs/grpo_mixed
    python scripts/report.py outputs/eval --output eval.html
    python scripts/report.py outputs/search/gsm8k

RUN_DIR is what a recipe leaves (rollouts.jsonl with its parts, metrics.csv, heldout.jsonl, summary.json, config.yaml,
adapter_config.json), what scripts/evaluate.py leaves (rows.jsonl, summary.json), or a search (nodes.jsonl). The
report shows what is there and says what is missing: reward, valid workflows, tiers, entropy, KL, zero-signal groups and
cost over steps, operators by domain, the best and the worst workflows with the graph of a run, held-out reward before
and after against fixed workflows, a sample of rows, and the configuration; of a search its tree, scores and pass@k over
rounds, cost against score, and how each workflow differs from its parent. It may be written while a run is still going.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from aflow_ops.errors import UsageError
from data.files import write_atomically
from recipes.run.command import CommandParser, run_command
from scripts.reporting.collect import JSONL_FILES, RUN_FILES, RunFiles, collect, sizes
from scripts.reporting.page import render
from scripts.reporting.search_page import render_search


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN_DIR", help="folder of a training run, an evaluation or a search"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page to write [RUN_DIR/report.html]")
    return parser.parse_args()


def check_folder(folder: Path) -> None:
    """Raise unless there is something to report.

    Raises:
        UsageError: no folder, or none of the files that a run leaves.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give a run, such as outputs/quickstart")
    if not sizes(folder, (*RUN_FILES, "nodes.jsonl")):
        known = ", ".join((*RUN_FILES, "nodes.jsonl"))
        raise UsageError(f"{folder} is no training run, evaluation or search: expected at least one of {known}")


def read_with_bar(folder: Path) -> RunFiles:
    """Read the folder and show how far it is."""
    total = sum(sizes(folder, JSONL_FILES).values())
    columns = (TextColumn("reading"), BarColumn(bar_width=24), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=total)
        return collect(folder, lambda count: progress.advance(task, count))


def main() -> None:
    """Read, render, write."""
    arguments = parse_arguments()
    check_folder(arguments.run_dir)
    output = arguments.output or arguments.run_dir / "report.html"
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder: name a file")
    is_search = (arguments.run_dir / "nodes.jsonl").is_file()
    page = render_search(arguments.run_dir) if is_search else render(read_with_bar(arguments.run_dir))
    with write_atomically(output) as file:
        file.write(page)
    print(f"{output} ({len(page.encode()) / 1000:,.0f} kB)")


if __name__ == "__main__":
    sys.exit(run_command(main))
