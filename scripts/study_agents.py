"""Do the teams of agents learn for every seed? Teams x seeds, one row a run of a team's embedded default.

    python scripts/study_agents.py                                         # all five teams, seeds 0 to 4
    python scripts/study_agents.py --teams deepcoder search_qa --seeds 0 1 --jobs 2
    python scripts/study_agents.py --teams math_tool --settings joint separate alternating --seeds 0 1 2
    python scripts/study_agents.py --seeds                                 # no runs: only the page, from the rows

Every run is the recipe itself in a process of its own. Its numbers become a row of recipes/learning/agents.jsonl as
soon as it has ended, and recipes/learning/agents.md is written anew from all rows: stop whenever you like and go on
with the same command. A run whose row is there is not repeated, unless its settings or its script have changed since;
such rows leave the file with the next run.
"""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aflow_ops.errors import InfraError
from recipes.run.command import CommandParser, run_command
from scripts.studying.agent_page import write_agent_page
from scripts.studying.agent_rows import (
    JOINT,
    SETTINGS,
    TEAMS,
    AgentRow,
    fingerprint,
    flags_of,
    folder_of,
    read_agent_rows,
    row_of,
    write_agent_rows,
)
from scripts.studying.running import PAGE, ROOT, KeptRows, commit_of, side_by_side


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("--teams", nargs="+", default=list(TEAMS), choices=TEAMS, metavar="NAME",
        help=f"which teams: {', '.join(TEAMS)} [all]")  # fmt: skip
    add("--settings", nargs="+", default=[JOINT], choices=list(SETTINGS), metavar="NAME",
        help=f"how they train: {', '.join(SETTINGS)} [{JOINT}]")  # fmt: skip
    add("--seeds", type=int, nargs="*", default=list(range(5)), help="seeds of each [0 to 4]")
    add("--jobs", type=int, default=1, help="runs at once, which share the cores [1]")
    add("--output", type=Path, default=ROOT / "outputs" / "study_agents", help="of the runs [outputs/study_agents]")
    add("--page", type=Path, default=PAGE, help="folder of rows and tables [recipes/learning]")
    return parser.parse_args()


class AgentStudy:
    """The rows there are, and how the missing ones are made.

    Args:
        arguments (`argparse.Namespace`): of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.file: Path = arguments.page / "agents.jsonl"
        self.kept = KeptRows(self.file, read_agent_rows, fingerprint, self._write)
        self.console = Console(stderr=True, highlight=False)

    def missing(self) -> list[tuple[str, str, int]]:
        """Return the (team, setting, seed) that were asked for and have no row of the present settings."""
        asked = itertools.product(self.arguments.teams, self.arguments.seeds, self.arguments.settings)
        return [key for team, seed, setting in asked if (key := (team, setting, seed)) not in self.kept]

    def run(self, team: str, setting: str, seed: int) -> None:
        """Train once and keep its row.

        Raises:
            InfraError: the run failed; names its log.
        """
        output: Path = self.arguments.output
        folder = folder_of(team, setting, seed, output)
        folder.mkdir(parents=True, exist_ok=True)
        used, commit = fingerprint(team, setting), commit_of(ROOT)
        command = [sys.executable, str(ROOT / "recipes" / f"{team}.py"), *flags_of(team, setting, seed, output)]
        threads = max(1, (os.cpu_count() or 1) // self.arguments.jobs)
        log = folder / "run.log"
        self.console.print(f"{team}, {setting}, seed {seed}: {log}")
        with log.open("a") as out:
            environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
            if subprocess.run(command, stdout=out, stderr=out, check=False, env=environment).returncode != 0:
                raise InfraError(f"{team}, {setting}, seed {seed} failed; its log is {log}")
        row = row_of(folder, team, setting, seed, used, commit)
        self.kept.keep(row)
        self.console.print(f"{team}, {setting}, seed {seed}: {row.before:.3f} -> {row.after:.3f}")

    def _write(self, rows: Sequence[AgentRow]) -> None:
        write_agent_rows(self.file, rows)
        write_agent_page(self.arguments.page / "agents.md", rows)


def main() -> None:
    """Run what is missing, then say where the page is."""
    arguments = parse_arguments()
    study = AgentStudy(arguments)
    side_by_side(study.run, study.missing(), arguments.jobs)
    rows = study.kept.read_again()
    if not rows:
        print(f"no rows yet in {study.file}")
        return
    write_agent_page(arguments.page / "agents.md", rows)
    print(f"{len(rows)} runs: {arguments.page / 'agents.md'}")


if __name__ == "__main__":
    sys.exit(run_command(main))
