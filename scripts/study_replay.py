"""Does it help to learn from search, for the executor tokens of online GRPO alone? `make bench-replay`.

    python scripts/study_replay.py                                   # every way, seeds 0 to 4
    python scripts/study_replay.py --settings online mixed --seeds 0 1
    python scripts/study_replay.py --seeds                           # no runs: only the page, from the rows

Online GRPO, SFT, Score-DPO and GRPO on what a search found, mixed GRPO, the loop of both, and SFT, mixed and online one
after the other; and whether a policy whose warm start leaves the best workflow of a domain out learns it. Every run is
recipes and scripts in processes of their own. Its numbers become a row of recipes/learning/replay.jsonl as soon as it
has ended, and recipes/learning/replay.md is written anew from all rows: stop whenever you like and go on with the same
command, which does no command twice. A run whose row is there is not repeated, unless its settings have changed since.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console

from aflow_ops.errors import InfraError
from data.files import write_atomically
from data.mixing import parse_mix
from recipes.run.command import CommandParser, run_command
from recipes.training.problems import mixed_problems
from scripts.study_learning import commit_of
from scripts.studying.replay_page import write_replay_page
from scripts.studying.replay_rows import (
    ReplayRow,
    best_fixed,
    read_replay_rows,
    rewards_of,
    share_with,
    tokens_of,
    tokens_to,
    write_replay_rows,
    zero_signal_of,
)
from scripts.studying.replay_settings import (
    HELDOUT,
    MASKED,
    ONLINE,
    ROOT,
    SETTINGS,
    TRAIN,
    Command,
    Seed,
    Tokens,
    fingerprint,
)

SOURCES = ("arithmetic", "invented_facts", "small_functions")
MIX = "math=0.34,qa=0.33,code=0.33"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), metavar="NAME",
        help=f"what to run: {', '.join(SETTINGS)} [all]")  # fmt: skip
    add("--seeds", type=int, nargs="*", default=list(range(5)), help="seeds of each [0 to 4]")
    add("--cache", type=Path, default=ROOT / ".cache" / "study", help="cached replies of the executor [.cache/study]")
    add(
        "--output",
        type=Path,
        default=ROOT / "outputs" / "study_replay",
        help="folder of the runs [outputs/study_replay]",
    )
    add("--page", type=Path, default=ROOT / "recipes" / "learning", help="folder of rows and table [recipes/learning]")
    return parser.parse_args()


class ReplayStudy:
    """The rows there are, and how the missing ones are made.

    Args:
        arguments (`argparse.Namespace`): of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.file: Path = arguments.page / "replay.jsonl"
        self.rows = read_replay_rows(self.file)
        self.console = Console(stderr=True, highlight=False)

    def missing(self) -> list[tuple[int, str]]:
        """Return the (seed, setting) that were asked for and have no row of the present settings; online first."""
        there = {(row.seed, row.setting) for row in self.rows if row.fingerprint == fingerprint(row.setting)}
        wanted = sorted(self.arguments.settings, key=list(SETTINGS).index)
        return [job for job in itertools.product(self.arguments.seeds, wanted) if job not in there]

    def run(self, number: int, setting: str) -> None:
        """Run a setting for a seed, with what it needs of online GRPO and of the search, and keep its row.

        Raises:
            InfraError: a command failed; names its log.
        """
        seed = Seed(self.arguments.output / f"seed{number}", number, self.arguments.cache)
        write_problems(seed)
        self.all_of(seed.commands(ONLINE, None), setting)
        tokens = None
        if setting != ONLINE:
            self.all_of([seed.searching()], setting)
            tokens = Tokens(tokens_of(seed.folder / ONLINE), tokens_of(seed.search))
        commands, start = seed.commands(setting, tokens), time.monotonic()
        self.all_of([*commands, seed.evaluation(before_of(setting)), seed.evaluation(setting)], setting)
        self.keep(row_of(seed, setting, commands, time.monotonic() - start))

    def all_of(self, commands: Sequence[Command], setting: str) -> None:
        """Run each command that has not ended yet.

        Raises:
            InfraError: one failed; names its log.
        """
        for command in commands:
            if command.done.is_file():
                continue
            command.done.parent.mkdir(parents=True, exist_ok=True)
            log = command.done.parent.parent / f"{command.done.parent.name}.log"
            self.console.print(f"{setting}: {Path(command.words[0]).name}, {log}")
            with log.open("a") as out:
                done = subprocess.run([sys.executable, *command.words], cwd=ROOT, stdout=out, stderr=out, check=False)
            if done.returncode != 0 or not command.done.is_file():
                raise InfraError(f"{setting}: {Path(command.words[0]).name} failed; its log is {log}")

    def keep(self, row: ReplayRow) -> None:
        """Add a row, drop those that it or changed settings replace, and write rows and page."""
        others = [
            other
            for other in self.rows
            if (other.setting, other.seed) != (row.setting, row.seed)
            and other.fingerprint == fingerprint(other.setting)
        ]
        self.rows = [*others, row]
        write_replay_rows(self.file, self.rows)
        write_replay_page(self.arguments.page / "replay.md", self.rows)
        self.console.print(f"{row.setting}, seed {row.seed}: {row.before:.3f} -> {row.after:.3f}")


def write_problems(seed: Seed) -> None:
    """Write a seed's problems: training and held-out ones in one file, which `data/registry.py` tells apart again."""
    parts = {
        part: list(dict.fromkeys(mixed_problems(SOURCES, parse_mix(MIX), count, part, seed.seed)))  # type: ignore[arg-type]
        for part, count in (("train", TRAIN), ("heldout", HELDOUT))
    }
    for path, problems in ((seed.problems, [*parts["train"], *parts["heldout"]]), (seed.heldout, parts["heldout"])):
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.writelines(json.dumps(problem.to_row()) + "\n" for problem in problems)


def before_of(setting: str) -> str:
    """Return what the warm start of a setting is called."""
    return "masked_before" if setting.startswith("masked") else "before"


def row_of(seed: Seed, setting: str, commands: Sequence[Command], seconds: float) -> ReplayRow:
    """Return the row of a setting whose commands have all ended.

    Args:
        seed (`Seed`): whose.
        setting (`str`): which.
        commands (`Sequence[Command]`): all of it.
        seconds (`float`): that they took.
    """
    folder, spent = seed.folder / setting, [command.spent for command in commands if command.spent is not None]
    searched = sum(tokens_of(place) for place in spent if place in (seed.search, seed.wide) or setting == "loop")
    fixed = best_fixed(seed.folder / ONLINE)
    after, domains = rewards_of(folder / "evaluation")
    masked, (domain, operator) = setting.startswith("masked"), MASKED.split(":")
    online = setting in (ONLINE, "mixed", "masked_online", "masked_mixed")
    return ReplayRow(
        setting,
        seed.seed,
        fingerprint(setting),
        commit_of(ROOT),
        before=rewards_of(seed.folder / before_of(setting) / "evaluation")[0],
        after=after,
        domains=domains,
        fixed=fixed,
        tokens=sum(map(tokens_of, spent)),
        search_tokens=searched,
        zero_signal=zero_signal_of(folder) if online else None,
        tokens_to_fixed=tokens_to(folder, fmean(fixed.values()), searched) if online else None,
        masked_share=share_with(folder / "evaluation", domain, operator) if masked else None,
        seconds=round(seconds, 1),
    )


def main() -> None:
    """Run what is missing, then say where the page is."""
    arguments = parse_arguments()
    study = ReplayStudy(arguments)
    for job in study.missing():
        study.run(*job)
    write_replay_page(arguments.page / "replay.md", study.rows)
    print(f"{len(study.rows)} runs: {arguments.page / 'replay.md'}")


if __name__ == "__main__":
    sys.exit(run_command(main))
