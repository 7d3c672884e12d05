"""The search without a key, GPU or download: for each embedded kind of problem, for all at once, and one table.

    make search
    python scripts/search_quickstart.py --output outputs/search --seed 1

SmolLM2-135M answers inside the workflows, the grammar proposes them. Each search's folder is that of
`scripts/search.py`; stopped half-way, the command goes on. The searches share a cache of replies: a program of one is
cheap in another.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recipes.run.command import CommandParser, run_command
from scripts.search import parse_arguments, search

DOMAINS = ("arithmetic", "invented_facts", "small_functions")
ALL = "all_at_once"
# Held-out problems of each domain. Problems of a search for one domain and for all: to choose by, and again at the end
# among the best; rounds.
HELDOUT = 20
PROBLEMS, ROUNDS = 40, 8
ALL_PROBLEMS, ALL_ROUNDS = 48, 12
# Seconds for a workflow: how busy this machine is must not decide what is found.
TIMEOUT = 900


def searches(output: Path, seed: int) -> dict[str, list[str]]:
    """Return the command line of every search, by its name.

    The problems of the search for all are those of the others, so that most of its replies are known.

    Args:
        output (`Path`): folder of the folders.
        seed (`int`): of problems and choices.
    """
    found = {}
    for name, sources in {**{source: (source,) for source in DOMAINS}, ALL: DOMAINS}.items():
        many = len(sources) > 1
        flags = {
            "validation_problems": ALL_PROBLEMS if many else PROBLEMS,
            "final_problems": ALL_PROBLEMS if many else PROBLEMS,
            "search_rounds": ALL_ROUNDS if many else ROUNDS,
            "heldout_problems": HELDOUT * len(sources),
            "parallel": 4,
            "seed": seed,
            "workflow_timeout": TIMEOUT,
            "executor": "local",
            "executor_cache_dir": output / "cache",
            "output": output / name,
        }
        words = [word for flag in flags for word in (f"--{flag}", str(flags[flag]))]
        found[name] = ["--data", *sources, "--operator_roots", *words]
    return found


def rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], float, Mapping[str, Any] | None]]:
    """Yield name, held-out result, tokens a problem and paired gain of what a search found and of its controls."""
    best, controls = summary["best"], summary["controls"]
    fixed = {name: control for name, control in controls.items() if name.startswith("fixed: ")}
    first = max(fixed, key=lambda name: fixed[name]["heldout"]["reward"])
    yield "found", best["heldout"], best["heldout"]["tokens"] / best["heldout"]["n"], None
    named = {"best fixed": first, "root": "root", "independent": "independent_samples", "single agent": "single_agent"}
    for label, name in named.items():
        control = controls[name]
        shown = f"{label}: {name.removeprefix('fixed: ')}" if name in fixed else label
        yield shown, control["heldout"], control["tokens"] / control["heldout"]["n"], control["gain"]


def show_all(summaries: Mapping[str, Mapping[str, Any]], seconds: float) -> None:
    """Print one table of all searches."""
    table = Table(title="Held-out reward, 95 % intervals over problems", title_justify="left")
    for column in ("problems", "workflow", "reward", "95 %", "found more by", "95 %", "tokens each"):
        table.add_column(column, justify="left" if column in ("problems", "workflow") else "right")
    for name, summary in summaries.items():
        spent = f"{summary['tokens']['executor'] / 1000:,.0f}k tokens, {summary['seconds']:.0f} s"
        for number, (label, heldout, tokens, gain) in enumerate(rows(summary)):
            table.add_row(
                (name, f"{heldout['n']} held out", spent, "", "")[number], label,
                f"{heldout['reward']:.3f}", _interval(heldout["ci95"]),
                "" if gain is None else f"{gain['mean']:+.3f}", "" if gain is None else _interval(gain["ci95"]),
                f"{tokens:,.0f}", end_section=number == 4,
            )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"{seconds:.0f} s in all; seconds of a search are with its controls", highlight=False)


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs/search"), help="folder [outputs/search]")
    parser.add_argument("--seed", type=int, default=0, help="of problems and choices [0]")
    return parser.parse_args()


def main() -> None:
    """Search four times, print the table."""
    arguments = read_arguments()
    start = time.monotonic()
    summaries = {}
    for name, words in searches(arguments.output, arguments.seed).items():
        search(parse_arguments(words), lambda summary, folder: None)
        summaries[name] = json.loads((arguments.output / name / "summary.json").read_text(encoding="utf-8"))
    show_all(summaries, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(run_command(main))
