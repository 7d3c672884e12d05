"""Does it help to learn from search, for the executor tokens of online GRPO alone? `make bench-replay`.

    python scripts/study_replay.py                                   # every way, seeds 14 to 18
    python scripts/study_replay.py --settings online mixed --seeds 14 15 --jobs 2
    python scripts/study_replay.py --seeds                           # no runs: only the page, from the rows

Online GRPO, SFT, Score-DPO and GRPO on what a search found, mixed GRPO, the loop of both, and SFT, mixed and online one
after the other; and whether a policy whose warm start leaves the best workflow of a domain out learns it. Every run is
recipes and scripts in processes of their own. Its numbers become a row of recipes/learning/replay.jsonl as soon as it
has ended, and recipes/learning/replay.md is written anew from all rows: stop whenever you like and go on with the same
command, which does no command twice. A run whose row is there is not repeated, unless its settings have changed since.
The problems are the quickstart's: with the --cache of a `make bench-learning` of these seeds, most replies are there.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console

from aflow_ops.errors import InfraError
from data.files import write_atomically
from data.mixing import parse_mix
from data.registry import Split
from recipes.run.command import CommandParser, run_command
from recipes.training.problems import mixed_problems
from scripts.studying.replay_page import write_replay_page
from scripts.studying.replay_rows import (
    ReplayRow,
    best_fixed,
    read_replay_rows,
    rewards_of,
    share_with,
    write_replay_rows,
    zero_signal_of,
)
from scripts.studying.replay_settings import (
    HELDOUT,
    MASKED,
    MASKED_ONLINE,
    OFFLINE,
    ONLINE,
    QUICKSTART_HELDOUT,
    QUICKSTART_TRAIN,
    SAMPLING,
    SEARCH_SHARE,
    SETTINGS,
    TRAIN,
    Command,
    Seed,
    Tokens,
    before_of,
    fingerprint,
)
from scripts.studying.replay_tokens import cut_search, reached_within, tokens_of, tokens_to
from scripts.studying.running import PAGE, ROOT, KeptRows, commit_of, side_by_side

SOURCES = ("arithmetic", "invented_facts", "small_functions")
MIX = "math=0.34,qa=0.33,code=0.33"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), metavar="NAME",
        help=f"what to run: {', '.join(SETTINGS)} [all]")  # fmt: skip
    add("--seeds", type=int, nargs="*", default=list(range(14, 19)), help="seeds of each [14 to 18]")
    add("--jobs", type=int, default=1, help="seeds at once [1]")
    add("--cache", type=Path, default=ROOT / ".cache" / "study", help="cached replies of the executor [.cache/study]")
    add(
        "--output",
        type=Path,
        default=ROOT / "outputs" / "study_replay",
        help="folder of the runs [outputs/study_replay]",
    )
    add("--page", type=Path, default=PAGE, help="folder of rows and table [recipes/learning]")
    return parser.parse_args()


class ReplayStudy:
    """The rows there are, and how the missing ones are made.

    Args:
        arguments (`argparse.Namespace`): of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.file: Path = arguments.page / "replay.jsonl"
        self.kept = KeptRows(self.file, read_replay_rows, fingerprint, self._write)
        self.console = Console(stderr=True, highlight=False)

    def missing(self, seed: int) -> list[str]:
        """Return the settings that were asked for and have no row of the present settings for a seed; online first."""
        return [name for name in SETTINGS if name in self.arguments.settings and (name, seed) not in self.kept]

    def run_seed(self, number: int) -> None:
        """Run what is missing of a seed.

        Raises:
            InfraError: a command failed; names its log.
        """
        for setting in self.missing(number):
            self.run(number, setting)

    def run(self, number: int, setting: str) -> None:
        """Run a setting for a seed, with what it needs of online GRPO and of the search, and keep its row.

        Raises:
            InfraError: a command failed; names its log.
        """
        seed, start = Seed(self.arguments.output / f"seed{number}", number, self.arguments.cache), time.monotonic()
        write_problems(seed)
        alone = MASKED_ONLINE if setting.startswith("masked") else ONLINE
        for each in dict.fromkeys((ONLINE, alone)):
            self.all_of(seed.commands(each, None), setting)
        budget, tokens = tokens_of(seed.folder / alone), None
        if setting != alone:
            self.all_of([seed.searching()], setting)
            everything = tokens_of(seed.folder / ONLINE)
            cut_search(seed.search, everything, seed.whole)
            cut_search(seed.search, round(SEARCH_SHARE * everything), seed.beside)
            tokens = Tokens(budget, tokens_of(seed.beside))
        self.all_of(seed.commands(setting, tokens), setting)
        reached = reached_by(seed, setting, budget)
        before = before_of(setting)
        self.all_of([seed.evaluation(before), seed.evaluation(setting, reached.adapter)], setting)
        row = row_of(seed, setting, reached, time.monotonic() - start)
        self.kept.keep(row)
        self.console.print(f"{setting}, seed {number}: {row.before:.3f} -> {row.after:.3f}")

    def all_of(self, commands: Sequence[Command], setting: str) -> None:
        """Run each command that has not ended yet.

        Raises:
            InfraError: one failed; names its log.
        """
        for command in commands:
            if command.has_ended():
                continue
            command.done.parent.parent.mkdir(parents=True, exist_ok=True)  # not its folder: some want to make it
            log = command.done.parent.parent / f"{command.done.parent.name}.log"
            self.console.print(f"{setting}: {Path(command.words[0]).name}, {log}")
            with log.open("a") as out:
                done = subprocess.run([sys.executable, *command.words], cwd=ROOT, stdout=out, stderr=out, check=False)
            if done.returncode != 0 or not command.has_ended():
                raise InfraError(f"{setting}: {Path(command.words[0]).name} failed; its log is {log}")

    def _write(self, rows: Sequence[ReplayRow]) -> None:
        write_replay_rows(self.file, rows)
        write_replay_page(self.arguments.page / "replay.md", rows)


def write_problems(seed: Seed) -> None:
    """Write a seed's problems: training and held-out ones in one file, which `data/registry.py` tells apart again."""
    counts: dict[Split, tuple[int, int]] = {
        "train": (QUICKSTART_TRAIN, TRAIN),
        "heldout": (QUICKSTART_HELDOUT, HELDOUT),
    }
    parts = {
        part: list(dict.fromkeys(mixed_problems(SOURCES, parse_mix(MIX), many, part, seed.seed)))[:few]
        for part, (many, few) in counts.items()
    }
    for path, problems in ((seed.problems, [*parts["train"], *parts["heldout"]]), (seed.heldout, parts["heldout"])):
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.writelines(json.dumps(problem.to_row()) + "\n" for problem in problems)


@dataclass(frozen=True)
class Reached:
    """What a setting came to with the tokens that it had.

    Args:
        adapter (`Path`, *optional*): to be judged; `None` where the setting's folder is a model.
        search (`int`): tokens of its search.
        before (`int`): tokens before its last training, those of the search included.
        tokens (`int`): in all.
    """

    adapter: Path | None
    search: int
    before: int
    tokens: int


def reached_by(seed: Seed, setting: str, budget: int) -> Reached:
    """Return what a setting came to, whose commands have all ended, before it had taken more than a budget."""
    folder = seed.folder / setting
    if setting in OFFLINE:
        spent = tokens_of(seed.whole)
        return Reached(None if setting == "sft" else folder, spent, spent, spent)
    searched = tokens_of(seed.beside) if setting.endswith("mixed") or setting == "sft_mixed_online" else 0
    before = searched + (tokens_of(folder / "mixed") if setting == "sft_mixed_online" else 0)
    adapter, taken = reached_within(folder, budget - before)
    return Reached(adapter, taken if setting == "loop" else searched, before, before + taken)


def row_of(seed: Seed, setting: str, reached: Reached, seconds: float) -> ReplayRow:
    """Return the row of a setting whose commands have all ended.

    Args:
        seed (`Seed`): whose.
        setting (`str`): which.
        reached (`Reached`): what was judged.
        seconds (`float`): that the commands took which had not ended before.
    """
    folder, fixed = seed.folder / setting, best_fixed(seed.folder / ONLINE)
    after, domains = rewards_of(folder / "evaluation")
    masked, (domain, operator) = setting.startswith("masked"), MASKED.split(":")
    sampling = setting in SAMPLING and setting != "loop"
    to_fixed = tokens_to(folder, fmean(fixed.values()), reached.before) if sampling else None
    return ReplayRow(
        setting,
        seed.seed,
        fingerprint(setting),
        commit_of(ROOT),
        before=rewards_of(seed.folder / before_of(setting) / "evaluation")[0],
        after=after,
        domains=domains,
        fixed=fixed,
        tokens=reached.tokens,
        search_tokens=reached.search,
        zero_signal=zero_signal_of(folder) if sampling else None,
        tokens_to_fixed=to_fixed if to_fixed is not None and to_fixed <= reached.tokens else None,
        masked_share=share_with(folder / "evaluation", domain, operator) if masked else None,
        seconds=round(seconds, 1),
    )


def main() -> None:
    """Run what is missing, then say where the page is."""
    arguments = parse_arguments()
    study = ReplayStudy(arguments)
    side_by_side(study.run_seed, [(seed,) for seed in arguments.seeds], arguments.jobs)
    rows = study.kept.read_again()
    write_replay_page(arguments.page / "replay.md", rows)
    print(f"{len(rows)} runs: {arguments.page / 'replay.md'}")


if __name__ == "__main__":
    sys.exit(run_command(main))
