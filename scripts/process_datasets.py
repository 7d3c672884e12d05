"""Turn downloaded benchmarks, or files of your own, into problems to train and evaluate on.

    python scripts/process_datasets.py                       # every benchmark that was downloaded
    python scripts/process_datasets.py gsm8k math math500
    python scripts/process_datasets.py mine.jsonl --strict   # your rows: question, answer, source (see data/jsonl.py)
    python scripts/process_datasets.py --mix 20000           # and a mixed set, 40 % math, 30 % qa, 30 % code

For each one writes OUTPUT_DIR/<name>/<split>.jsonl, a card (README.md) with counts, lengths and example rows, and
report.json. Recipes take the names (--sources gsm8k hotpotqa), evaluate.py too (--data gsm8k). Training rows that
repeat, or that share 13 words in a row with a test question, are left out and counted; test and validation sets stay
whole. Bad rows are reported by line and left out, or stop the command with --strict.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aflow_ops.errors import UsageError
from data.benchmarks import benchmark, benchmarks
from data.download import present
from data.files import write_atomically
from data.mixing import DEFAULT_MIX, apportion, mix, parse_mix
from data.preparing import NEAR_DUPLICATES, RawDataset, iter_processed, process_datasets, raw_benchmark
from data.problem import DataError, Domain, Problem
from data.processing import COUNTED, RawSplit, Rules, SplitReport
from data.raw_files import SUFFIXES
from data.registry import PROCESSED_FOLDER, RAW_FOLDER
from data.trimming import MAX_PROMPT_TOKENS, TextBudget
from recipes.run.bars import watched_rows
from recipes.run.command import CommandParser, run_command


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks, or files of rows [all downloaded ones]")
    parser.add_argument("--input_dir", type=Path, default=RAW_FOLDER, help=f"downloaded files [{RAW_FOLDER}]")
    parser.add_argument(
        "--output_dir", type=Path, default=PROCESSED_FOLDER, help=f"folder of the problems [{PROCESSED_FOLDER}]"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    parser.add_argument(
        "--max_prompt_tokens",
        type=int,
        default=MAX_PROMPT_TOKENS,
        help=f"longest question with context [{MAX_PROMPT_TOKENS}]",
    )
    parser.add_argument("--tokenizer", help="model whose tokens are counted [an estimate, 3.5 characters a token]")
    parser.add_argument(
        "--near_duplicates",
        type=float,
        default=NEAR_DUPLICATES,
        help=f"similarity of near duplicates; 2 keeps them [{NEAR_DUPLICATES}]",
    )
    parser.add_argument("--keep_contaminated", action="store_true", help="count contaminated rows but keep them")
    parser.add_argument(
        "--aflow_split", action="store_true", help="cut a fifth of each test set off as validation, as AFlow does"
    )
    parser.add_argument("--mix", type=int, default=0, metavar="N", help="also write mixed/train.jsonl with N rows")
    parser.add_argument("--mix_ratio", default=DEFAULT_MIX, help=f"shares of it [{DEFAULT_MIX}]")
    parser.add_argument("--seed", type=int, default=0, help="which rows are in the mixed set [0]")
    return parser.parse_args()


def text_budget(arguments: argparse.Namespace) -> TextBudget:
    """Return the token budget, exact when a tokenizer is named.

    Raises:
        UsageError: the budget is below 1, or the tokenizer cannot be loaded.
    """
    try:
        if arguments.tokenizer is None:
            return TextBudget(arguments.max_prompt_tokens)
        from transformers import AutoTokenizer  # seconds, and only needed here

        tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
        return TextBudget(arguments.max_prompt_tokens, lambda text: len(tokenizer.encode(text)))
    except (OSError, ValueError) as error:
        raise UsageError(f"--max_prompt_tokens, --tokenizer: {error}") from None


def datasets(arguments: argparse.Namespace) -> Iterator[RawDataset]:
    """Yield every data set asked for, with its raw splits.

    Raises:
        DataError: an unknown name, two data sets of one name, a missing file, or nothing downloaded.
    """
    names = list(dict.fromkeys(arguments.names))
    if not names:
        names = [name for name, known in benchmarks().items() if present(known, arguments.input_dir)]
        if not names:
            raise DataError(f"nothing is in {arguments.input_dir}: python scripts/download_datasets.py first")
    taken = {"mixed": "the mixed set"} | dict.fromkeys(benchmarks(), "the benchmark")
    for name in names:
        if name.endswith(SUFFIXES) or "/" in name:
            path = Path(name)
            own = path.name.split(".")[0]
            if own in taken:
                raise DataError(
                    f"{name} would be written to {arguments.output_dir / own}, as {taken[own]} is: rename it"
                )
            taken[own] = name
            yield RawDataset(own, None, [RawSplit("train", [path], dict)])
        else:
            yield raw_benchmark(benchmark(name), arguments.input_dir)


def write_mixed(arguments: argparse.Namespace, names: Sequence[str], ratios: Mapping[Domain, float]) -> Path:
    """Write a mixed training set: every domain's share exact, its rows drawn evenly from its datasets.

    Memory is bounded by the size of the mixed set: each dataset is sampled while it is read (reservoir sampling,
    Vitter, 1985).

    Raises:
        DataError: a domain with a share has no training rows.
    """
    counts = apportion(ratios, arguments.mix)
    drawn: dict[Domain, list[list[Problem]]] = {}
    for name in names:
        path = arguments.output_dir / name / "train.jsonl"
        if path.is_file():
            for domain, sample in _samples(path, counts, random.Random(f"{name} {arguments.seed}")).items():
                drawn.setdefault(domain, []).append(sample)
    pools = {domain: _even(columns, counts.get(domain, 0)) for domain, columns in drawn.items()}
    target: Path = arguments.output_dir / "mixed" / "train.jsonl"
    with write_atomically(target) as file:
        for problem in mix(pools, ratios, arguments.mix, arguments.seed):
            file.write(json.dumps(problem.to_row(), ensure_ascii=False) + "\n")
    return target


def _samples(path: Path, sizes: Mapping[Domain, int], rng: random.Random) -> dict[Domain, list[Problem]]:
    """Draw up to this many problems of each domain, every one with the same probability."""
    samples: dict[Domain, list[Problem]] = {domain: [] for domain, size in sizes.items() if size}
    passed: Counter[Domain] = Counter()
    for problem in iter_processed(path):
        if (sample := samples.get(problem.domain)) is None:
            continue
        passed[problem.domain] += 1
        if len(sample) < sizes[problem.domain]:
            sample.append(problem)
        elif (position := rng.randrange(passed[problem.domain])) < len(sample):
            sample[position] = problem
    for sample in samples.values():
        rng.shuffle(sample)
    return samples


def _even(columns: Sequence[Sequence[Problem]], count: int) -> list[Problem]:
    """Draw from several lists in turn until there are enough."""
    longest = max(map(len, columns))
    rows = [column[index] for index in range(longest) for column in columns if index < len(column)]
    return rows[:count]


def show(reports: Mapping[str, Mapping[str, SplitReport]], output: Path) -> None:
    """Print what became of the rows."""
    table = Table(title=f"rows, in {output}/", title_justify="left")
    for column in ("", "split", "read", "written", "left out or changed"):
        table.add_column(column, justify="right" if column in ("read", "written") else "left")
    for name, splits in reports.items():
        for split, report in splits.items():
            counts = [f"{report.counts[what]} {what.replace('_', ' ')}" for what in COUNTED if report.counts[what]]
            table.add_row(name, split, str(report.read), str(report.written), ", ".join(counts))
    Console().print(table)
    for splits in reports.values():
        for report in splits.values():
            for reason in report.bad_rows[:5]:
                print(f"bad row: {reason}", file=sys.stderr)
            if (more := report.counts["bad"] - 5) > 0:
                print(f"and {more} more bad rows; the dataset's README.md has them", file=sys.stderr)


def main() -> None:
    """Process, write the cards and the mixed set, show."""
    arguments = parse_arguments()
    try:
        ratios = parse_mix(arguments.mix_ratio)
        apportion(ratios, arguments.mix)
    except ValueError as error:
        raise UsageError(f"--mix_ratio: {error}") from None
    if arguments.mix < 0:
        raise UsageError(f"--mix {arguments.mix} must not be negative")
    if not arguments.near_duplicates > 0:
        raise UsageError(f"--near_duplicates {arguments.near_duplicates} must be above 0")
    rules = Rules(text_budget(arguments), arguments.strict, arguments.keep_contaminated, arguments.aflow_split)
    found = list(datasets(arguments))
    with watched_rows() as watch:
        reports = process_datasets(found, arguments.output_dir, rules, arguments.near_duplicates, watch)
    show(reports, arguments.output_dir)
    if arguments.mix:
        print(f"mixed: {arguments.mix} rows in {write_mixed(arguments, [dataset.name for dataset in found], ratios)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
