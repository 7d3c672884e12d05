"""From raw files to processed data sets: several at once, held-out splits first; and benchmarks at their first use."""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.benchmarks import Benchmark, benchmarks, converter
from data.card import write_card
from data.download import from_hub, present, raw_splits
from data.fingerprints import Fingerprints
from data.problem import Problem
from data.processing import HELD_OUT, Progress, RawSplit, Rules, SplitReport, process_split
from data.raw_files import iter_raw_rows
from data.registry import SOURCES

NEAR_DUPLICATES = 0.85  # MinHash similarity from which two questions are one
# Told what is being done and for which data set; returns what is told of every row.
Watch = Callable[[str], Progress]


@dataclass(frozen=True)
class RawDataset:
    """A data set before processing.

    Args:
        name (`str`): of its folder.
        benchmark (`Benchmark`, *optional*): which one it is; a user's file is none.
        splits (`Sequence[RawSplit]`): its raw files.
    """

    name: str
    benchmark: Benchmark | None
    splits: Sequence[RawSplit]


def raw_benchmark(known: Benchmark, folder: Path) -> RawDataset:
    """Return a benchmark that was downloaded.

    Args:
        known (`Benchmark`): which one.
        folder (`Path`): of the downloads.

    Raises:
        DataError: it was not; names the command that does.
    """
    files = raw_splits(known, folder).items()
    splits = [RawSplit(split, paths, converter(known.name, split), known.by_id) for split, paths in files]
    return RawDataset(known.name, known, splits)


def process_datasets(
    datasets: Sequence[RawDataset],
    output: Path,
    rules: Rules,
    near_duplicates: float = NEAR_DUPLICATES,
    watch: Watch = lambda label: lambda count: None,
) -> dict[str, dict[str, SplitReport]]:
    """Process every split of some data sets, those held out first, and write their cards.

    Test sets of earlier calls count too: training rows that share 13 words in a row with them are left out.

    Args:
        datasets (`Sequence[RawDataset]`): at least one.
        output (`Path`): gets a folder for each.
        rules (`Rules`): what is left out.
        near_duplicates (`float`): similarity of near duplicates, above 0; 2 keeps them.
        watch (`Callable`): called with each data set and split; what it returns is called with numbers of rows.

    Returns:
        `dict`: the reports by data set and split.

    Raises:
        DataError: a file cannot be read, or none of its rows can be used.
    """
    reports: dict[str, dict[str, SplitReport]] = {dataset.name: {} for dataset in datasets}
    order = sorted(
        ((dataset.name, split) for dataset in datasets for split in dataset.splits),
        key=lambda pair: (pair[1].name not in HELD_OUT, pair[1].name != "test", pair[1].by_id is None),
    )
    with Fingerprints(near_duplicates) as prints:
        for path in sorted(path for held_out in HELD_OUT for path in output.glob(f"*/{held_out}.jsonl")):
            if path.parent.name not in reports:
                for problem in iter_processed(path):
                    prints.add_test(problem)
        for name, split in order:
            reports[name] |= process_split(split, output / name, rules, prints, watch(f"{name} {split.name}"))
    for dataset in datasets:
        write_card(output / dataset.name, dataset.name, dataset.benchmark, reports[dataset.name], rules)
    return reports


def iter_processed(path: Path) -> Iterator[Problem]:
    """Yield the problems of a processed split, one at a time."""
    for _, row in iter_raw_rows(path):
        if not isinstance(row, ValueError):
            yield Problem.from_row(row)


def missing_benchmarks(sources: Sequence[str], processed: Path) -> list[Benchmark]:
    """Return the benchmarks among some sources that were not processed yet.

    Args:
        sources (`Sequence[str]`): names and paths; what is no benchmark is passed over.
        processed (`Path`): folder of processed data sets.
    """
    return [
        benchmarks()[source]
        for source in dict.fromkeys(sources)
        if source in benchmarks()
        and source not in SOURCES
        and not any((processed / source / name).is_file() for name in ("train.jsonl", "report.json"))  # written last
    ]


def prepare_benchmarks(sources: Sequence[str], raw: Path, processed: Path, rules: Rules, watch: Watch) -> None:
    """Download and process the benchmarks among some sources that are not there yet.

    Test sets of the same source come along (MATH-500 with MATH), so that no training row is like one of theirs. Of
    several processes one does it and the others wait.

    Args:
        sources (`Sequence[str]`): names and paths.
        raw (`Path`): folder of the downloads.
        processed (`Path`): folder of the processed data sets.
        rules (`Rules`): of processing.
        watch (`Callable`): as for `process_datasets`; downloads are told of too.

    Raises:
        DataError: the Hub cannot be reached, the disk is too small, or a file is not what it should be.
    """
    if not missing_benchmarks(sources, processed):
        return
    with _alone(processed):
        wanted = missing_benchmarks(sources, processed)
        siblings = [
            known
            for known in benchmarks().values()
            if set(known.splits) == {"test"} and any(known.source == other.source for other in wanted)
        ]
        together = {known.name: known for known in [*wanted, *siblings]}.values()
        for known in together:
            files = present(known, raw)
            if files is None or {file.split for file in files} != set(known.splits):
                watch(f"fetching {known.name}")
                from_hub(known, raw)
        if together:
            process_datasets([raw_benchmark(known, raw) for known in together], processed, rules, watch=watch)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process prepares data in a folder; a kill lets the next one in."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".preparing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
