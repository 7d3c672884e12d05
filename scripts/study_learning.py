"""Does the quickstart learn for every seed? Seeds x settings, one row a run: `make bench-learning`.

    python scripts/study_learning.py                                       # seeds 24 to 33 of the quickstart
    python scripts/study_learning.py --settings wa_grpo_k4 grpo_k4 --seeds 24 25 26 27 28
    python scripts/study_learning.py --settings harder --seeds 5 6 7 8 9    # the best workflow differs within a domain
    python scripts/study_learning.py --settings smollm2 --seeds 0           # a real model as policy: an hour or more
    python scripts/study_learning.py --seeds                               # no runs: only the page, from the rows

Every run is the recipe itself in a process of its own. Its numbers become a row of recipes/learning/rows.jsonl as soon
as it has ended, and the page recipes/learning/README.md, with one table and one plot, is written anew from all rows:
stop whenever you like and go on with the same command. A run whose row is there is not repeated, unless the settings,
the problems or the corpus that it was made with have changed since; such rows leave the file with the next run.

Runs share the cached replies of the executor in --cache; `--empty_cache` gives each run a cache of its own.
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aflow_ops.errors import InfraError
from recipes.run.command import run_command
from scripts.studying.page import write_page
from scripts.studying.rows import StudyRow, read_rows, row_of, write_rows
from scripts.studying.running import PAGE, ROOT, KeptRows, commit_of, side_by_side
from scripts.studying.settings import SETTINGS, fingerprint, flags_of


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--settings", nargs="+", default=["quickstart"], choices=sorted(SETTINGS), metavar="NAME",
        help=f"what to run: {', '.join(SETTINGS)} [quickstart]",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(24, 34)), help="seeds of each [24 to 33]")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once [1]")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".cache" / "study", help="cached replies of the executor [.cache/study]"
    )
    parser.add_argument("--empty_cache", action="store_true", help="begin each run with an empty cache of its own")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "outputs" / "study", help="folder of the runs [outputs/study]"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="folder of rows, table and plot [recipes/learning]")
    return parser.parse_args()


class Study:
    """The rows there are, and how the missing ones are made.

    Args:
        arguments (`argparse.Namespace`): of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.file: Path = arguments.page / "rows.jsonl"
        self.kept = KeptRows(self.file, read_rows, fingerprint, self._write)
        self.console = Console(stderr=True, highlight=False)

    def missing(self) -> list[tuple[str, int]]:
        """Return the (setting, seed) that were asked for and have no row of the present settings; seed by seed."""
        asked = itertools.product(self.arguments.seeds, self.arguments.settings)
        return [(setting, seed) for seed, setting in asked if (setting, seed) not in self.kept]

    def run(self, setting: str, seed: int) -> None:
        """Train once and keep its row.

        Raises:
            InfraError: the run failed; names its log.
        """
        folder: Path = self.arguments.output / f"{setting}_seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        cache = folder / "cache" if self.arguments.empty_cache else self.arguments.cache
        used, commit = fingerprint(setting), commit_of(ROOT)
        command = [sys.executable, str(ROOT / "recipes" / "grpo_mixed.py"), *flags_of(setting, seed, folder, cache)]
        self.console.print(f"{setting}, seed {seed}: {folder / 'run.log'}")
        with (folder / "run.log").open("a") as log:
            if subprocess.run(command, stdout=log, stderr=log, check=False).returncode != 0:
                raise InfraError(f"{setting}, seed {seed} failed; its log is {folder / 'run.log'}")
        row = row_of(folder, setting, seed, used, commit, empty_cache=self.arguments.empty_cache)
        self.kept.keep(row)
        self.console.print(f"{setting}, seed {seed}: {row.before:.3f} -> {row.after:.3f}")

    def _write(self, rows: Sequence[StudyRow]) -> None:
        write_rows(self.file, rows)
        write_page(self.arguments.page, rows)


def main() -> None:
    """Run what is missing, then say where the page is."""
    arguments = parse_arguments()
    study = Study(arguments)
    side_by_side(study.run, study.missing(), arguments.jobs)
    rows = study.kept.read_again()
    if not rows:
        print(f"no rows yet in {study.file}")
        return
    write_page(arguments.page, rows)
    print(f"{len(rows)} runs: {arguments.page / 'README.md'}")


if __name__ == "__main__":
    sys.exit(run_command(main))
