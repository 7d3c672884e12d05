"""The search without a key, GPU or download: for each embedded kind of problem, for all at once, and one table.

    make search
    python scripts/search_quickstart.py --output outputs/search --seed 1
    python scripts/search_quickstart.py --output outputs/search_seeds --seeds 1 2 3 4

SmolLM2-135M answers inside the workflows, the grammar proposes them. Each search's folder is that of
`scripts/search.py`; stopped half-way, the command goes on. The searches go on side by side and share one executor with
its cache: a program of one is cheap in another. Several seeds have a folder each beneath the output, with `result.json`
when they are done, and end in one table in Markdown; those that are done are not run again.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_ops.concurrency import gather_or_cancel
from data.files import claimed
from recipes.run.command import CommandParser, run_command
from scripts.search import command_of, parse_arguments
from scripts.searching.command import SearchCommand
from scripts.searching.opened import open_search
from scripts.searching.results import write_json

DOMAINS = ("arithmetic", "invented_facts", "small_functions")
ALL = "all_at_once"
# Held-out problems of each domain. Problems of a search for one domain and for all: to choose by, and further ones to
# choose by among the best at the end; rounds. The problems of the search for all are among those of the others.
HELDOUT = 16
PROBLEMS, FINAL, ROUNDS = 12, 16, 2
ALL_PROBLEMS, ALL_FINAL, ALL_ROUNDS = 36, 24, 4
# Rounds of the search for all at a time: a branch is split further in a later wave.
ALL_PARALLEL = 2
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
            "final_problems": ALL_FINAL if many else FINAL,
            "search_rounds": ALL_ROUNDS if many else ROUNDS,
            "heldout_problems": HELDOUT * len(sources),
            "parallel": ALL_PARALLEL if many else 4,
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
    console.print(f"{seconds:.0f} s in all; the searches went on side by side, with their controls", highlight=False)


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def markdown(results: Mapping[int, Mapping[str, Any]]) -> str:
    """Return what was found on each seed beside its controls, in Markdown.

    Args:
        results (`Mapping[int, Mapping]`): what `result.json` says, by seed.
    """
    lines = [
        "| seed | problems | found, held-out | best fixed there | more by, 95 % | independent samples | single agent |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, result in results.items():
        for name, shown in result["searches"].items():
            found, fixed, _, independent, agent = (row["reward"] for row in shown)
            gain = shown[1]["gain"]
            more = f"{gain['mean']:+.2f} [{gain['ci95'][0]:+.2f}, {gain['ci95'][1]:+.2f}]"
            lines.append(
                f"| {seed} | {name.replace('_', ' ')}, {shown[0]['n']} | {found:.3f} | {fixed:.3f} | {more} | "
                f"{independent:.3f} | {agent:.3f} |"
            )
    seconds = "; ".join(
        f"seed {seed}: {result['seconds']:.0f} s{' (resumed)' if result['resumed'] else ''}"
        for seed, result in results.items()
    )
    return "\n".join([*lines, "", seconds])


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs/search"), help="folder [outputs/search]")
    parser.add_argument("--seed", type=int, default=0, help="of problems and choices [0]")
    parser.add_argument("--seeds", type=int, nargs="+", help="one search of all after the other, for these seeds")
    return parser.parse_args()


async def search_all(commands: Mapping[str, SearchCommand], folder: Path) -> None:
    """Search side by side: one server answers all, and no search waits for another's last reply.

    Args:
        commands (`Mapping[str, SearchCommand]`): the searches, by name.
        folder (`Path`): gets the log of the embedded executor.
    """
    first = next(iter(commands.values()))
    async with AsyncExitStack() as stack:
        opened = await open_search(stack, first.arguments, first.config, folder)
        await gather_or_cancel(command.run(opened) for command in commands.values())


def search_with(seed: int, folder: Path) -> dict[str, Any]:
    """Search four times with one seed.

    Args:
        seed (`int`): of problems and choices.
        folder (`Path`): of the folders; gets `result.json` too.

    Returns:
        `dict`: `seconds`, whether an earlier start had begun (`resumed`), and the `summaries` by search.
    """
    start = time.monotonic()
    words = searches(folder, seed)
    commands = {name: command_of(parse_arguments(own), lambda summary, folder: None) for name, own in words.items()}
    resumed = any((command.output / "nodes.jsonl").is_file() for command in commands.values())
    with ExitStack() as stack:
        for command in commands.values():
            stack.enter_context(claimed(command.output))
        asyncio.run(search_all(commands, folder))
    summaries = {name: json.loads((command.output / "summary.json").read_text()) for name, command in commands.items()}
    shown = {
        name: [{"name": label, **heldout, "gain": gain} for label, heldout, _, gain in rows(summary)]
        for name, summary in summaries.items()
    }
    result = {"seed": seed, "seconds": round(time.monotonic() - start, 1), "resumed": resumed, "searches": shown}
    write_json(folder / "result.json", result)
    return {**result, "summaries": summaries}


def main() -> None:
    """Search four times, print the table; or for several seeds."""
    arguments = read_arguments()
    if arguments.seeds is None:
        result = search_with(arguments.seed, arguments.output)
        show_all(result["summaries"], result["seconds"])
        return
    results = {}
    for seed in arguments.seeds:
        folder = arguments.output / f"seed_{seed}"
        path = folder / "result.json"
        results[seed] = json.loads(path.read_text()) if path.is_file() else search_with(seed, folder)
        print(f"seed {seed}: {results[seed]['seconds']:.0f} s", file=sys.stderr)
    print(markdown(results))


if __name__ == "__main__":
    sys.exit(run_command(main))
