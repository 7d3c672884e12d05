"""Problem sources by name, each cut into a training and a held-out part that share no problem.

A problem belongs to the held-out part when the hash of its text says so, whatever the seed: one in five does. So no
seed of one part can ever produce a problem of the other. Of a benchmark with a training set both parts are cut from
that: its test set is for `scripts/evaluate.py` alone.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from data.arithmetic import arithmetic, gsm_symbolic
from data.benchmarks import benchmarks
from data.crossed_kinds import calculations, read_numbers
from data.humaneval import humaneval
from data.invented_facts import invented_facts
from data.invented_worlds import invented_worlds
from data.jsonl import read_problems, shuffled_problems
from data.plain_functions import plain_functions
from data.planted_bugs import planted_bugs
from data.problem import DataError, Problem
from data.small_functions import small_functions
from data.word_problems import word_problems

Split = Literal["train", "heldout"]

# Name -> problems in the order of a seed; endless but for humaneval.
SOURCES: dict[str, Callable[[int], Iterator[Problem]]] = {
    "arithmetic": arithmetic,
    "gsm_symbolic": gsm_symbolic,
    "invented_facts": invented_facts,
    "invented_worlds": invented_worlds,
    "small_functions": small_functions,
    "planted_bugs": planted_bugs,
    "word_problems": word_problems,
    "plain_functions": plain_functions,
    "read_numbers": read_numbers,
    "calculations": calculations,
    "humaneval": humaneval,
}
HELDOUT_ONE_IN = 5
# Where scripts/download_datasets.py and scripts/process_datasets.py put the benchmarks.
RAW_FOLDER = Path("data/cache/raw")
PROCESSED_FOLDER = Path("data/cache/processed")
# A generator that repeats itself this often in a row has nothing else to give.
_MAX_REPEATS = 2_000


def load_problems(source: str, split: Split, count: int, seed: int, *, shuffle: bool = True) -> list[Problem]:
    """Return up to `count` different problems of one part of a source.

    Args:
        source (`str`): a name in `SOURCES`, a processed dataset, or the path of a JSONL file.
        split (`str`): `"train"` or `"heldout"`.
        count (`int`): how many; a finite source may have fewer.
        seed (`int`): order and choice of the problems.
        shuffle (`bool`): also those of a processed dataset, which are in its own order otherwise.

    Raises:
        DataError: an unknown source, a bad file, or a part without problems.
    """
    problems = list(islice(iter_problems(source, split, seed, shuffle=shuffle), count))
    if not problems:
        raise DataError(f"source {source!r} has no problems in its {split} part; it needs at least a dozen rows")
    return problems


def iter_problems(source: str, split: Split, seed: int, *, shuffle: bool = True) -> Iterator[Problem]:
    """Yield the different problems of one part of a source."""
    processed = PROCESSED_FOLDER / source / "train.jsonl"
    if source not in SOURCES and processed.is_file():
        for problem in shuffled_problems(processed, random.Random(f"{source} {seed}") if shuffle else None):
            if in_heldout_part(problem) == (split == "heldout"):
                yield problem
        return
    seen: set[str] = set()
    repeats = 0
    for problem in _all_problems(source, seed):
        key = _digest(problem)
        if key in seen:
            repeats += 1
            if repeats > _MAX_REPEATS:
                return
            continue
        seen.add(key)
        repeats = 0
        if in_heldout_part(problem) == (split == "heldout"):
            yield problem


def in_heldout_part(problem: Problem) -> bool:
    """Whether a problem of a source without parts of its own is held out."""
    return int(_digest(problem), 16) % HELDOUT_ONE_IN == 0


def has_test_set(source: str) -> bool:
    """Whether a source is a processed benchmark with a training set and a test set beside it."""
    folder = PROCESSED_FOLDER / source
    return source not in SOURCES and all((folder / f"{part}.jsonl").is_file() for part in ("train", "test"))


def is_test_set(source: str) -> bool:
    """Whether a source is a benchmark that has nothing but its test set."""
    known = benchmarks().get(source)
    return known is not None and set(known.splits) == {"test"} and known.by_id is None


def _all_problems(source: str, seed: int) -> Iterator[Problem]:
    if source in SOURCES:
        return SOURCES[source](seed)
    if (path := PROCESSED_FOLDER / source / "test.jsonl").is_file():
        return iter(read_problems(path))
    if source in benchmarks():
        commands = " && ".join(f"python scripts/{verb}_datasets.py {source}" for verb in ("download", "process"))
        raise DataError(f"source {source!r} is not in {PROCESSED_FOLDER}: {commands}")
    if source.endswith((".jsonl", ".json")) or Path(source).exists():
        return iter(read_problems(Path(source)))
    raise DataError(
        f"unknown source {source!r}: use one of {', '.join(SOURCES)}, a benchmark ({', '.join(benchmarks())}), or the "
        "path of a JSONL file"
    )


def _digest(problem: Problem) -> str:
    return hashlib.sha256(f"{problem.context}\x1f{problem.question}".encode()).hexdigest()
