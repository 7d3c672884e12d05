"""Fetch the benchmarks' raw files.

    python scripts/download_datasets.py                      # all but DeepCoder and sanitized MBPP, 400 MB
    python scripts/download_datasets.py gsm8k math500        # some
    python scripts/download_datasets.py --source_dir DIR     # from files that you have: DIR/gsm8k/train.parquet, ...

Revisions are pinned in data/benchmarks/hub.yaml. HF_ENDPOINT names a mirror of the Hub. A download that was interrupted
goes on with the file at which it stopped, what is there already is not fetched again, and a benchmark that fails does
not stop the others. Next: python scripts/process_datasets.py
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from aflow_ops.errors import InfraError
from data.benchmarks import benchmark, benchmarks
from data.download import RawFile, from_folder, from_hub, present
from data.problem import DataError
from data.registry import RAW_FOLDER
from recipes.run.command import CommandParser, run_command


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks: {', '.join(benchmarks())}")
    parser.add_argument(
        "--list", choices=("train", "test"), help="only print what the pipeline trains or tests on, with its domain"
    )
    parser.add_argument("--source_dir", type=Path, help="take the files from this folder instead of the Hub")
    parser.add_argument("--output_dir", type=Path, default=RAW_FOLDER, help=f"folder of the raw files [{RAW_FOLDER}]")
    parser.add_argument(
        "--force", action="store_true", help="do not trust what is there: check it, fetch what is not right"
    )
    return parser.parse_args()


def fetch(name: str, arguments: argparse.Namespace) -> list[RawFile]:
    """Fetch one benchmark, unless it is there."""
    wanted = benchmark(name)
    files = present(wanted, arguments.output_dir)
    if not arguments.force and files is not None and {file.split for file in files} == set(wanted.splits):
        return files
    if arguments.source_dir is not None:
        return from_folder(wanted, arguments.source_dir, arguments.output_dir)
    return from_hub(wanted, arguments.output_dir)


def main() -> None:
    """Fetch, and say what came and what did not.

    Raises:
        InfraError: a benchmark could not be fetched; the others were.
    """
    arguments = parse_arguments()
    if arguments.list is not None:
        for known in benchmarks().values():
            if arguments.list in known.pipeline:
                print(known.name, known.domain)
        return
    for name in arguments.names:
        benchmark(name)  # a typo is said before anything is fetched
    failed = []
    console = Console(stderr=True)
    for name in arguments.names or [name for name, known in benchmarks().items() if not known.on_request]:
        try:
            with console.status(name):
                files = fetch(name, arguments)
        except DataError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        megabytes = sum(file.bytes for file in files) / 2**20
        splits = ", ".join(dict.fromkeys(file.split for file in files))
        print(f"{name}: {splits}; {megabytes:.1f} MB in {arguments.output_dir / name}/")
    if failed:
        raise InfraError(f"not fetched: {', '.join(failed)}; the reasons are above")


if __name__ == "__main__":
    sys.exit(run_command(main))
