"""What `data/benchmarks/hub.yaml` says of each benchmark, without the code that reads its rows.

Example entry:

    gsm8k:
      domain: math
      repo: openai/gsm8k
      revision: 740312add88f781978c0658806c59bc2815b9866
      licence: MIT
      splits:
        train: [main/train-00000-of-00001.parquet]
        test: [main/test-00000-of-00001.parquet]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data.domains import DOMAINS, Domain

HUB_FILE = Path(__file__).parent / "benchmarks" / "hub.yaml"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark on the Hugging Face Hub.

    Args:
        name (`str`): ours.
        domain (`str`): of its problems.
        repo (`str`): dataset repository.
        revision (`str`): commit.
        licence (`str`): as its card says.
        splits (`Mapping[str, tuple[str, ...]]`): files of the repository for each of our splits, in order.
        module (`str`): module of `data.benchmarks` that reads its rows; by default the one of its name.
        source (`str`): what its problems call their source; by default its name.
        metric (`str`, *optional*): its own metric where that is not its domain's, by the name that the domain's grader
            has for it (`METRICS` of `rewards/graders/qa.py`).
        by_id (`float`, *optional*): share of the rows, by ascending id, that is for training, where the Hub has but one
            split; the rest is the test set.
        on_request (`bool`): downloaded only when it is named.
        pipeline (`tuple[str, ...]`): what `scripts/run_full_pipeline.sh` uses it for: `"train"`, `"test"`, both or
            nothing.
    """

    name: str
    domain: Domain
    repo: str
    revision: str
    licence: str
    splits: Mapping[str, tuple[str, ...]]
    module: str
    source: str
    metric: str | None = None
    by_id: float | None = None
    on_request: bool = False
    pipeline: tuple[str, ...] = ()


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """Return every benchmark by name.

    Raises:
        ValueError: an entry has an unknown key or lacks one.
    """
    entries = yaml.safe_load(HUB_FILE.read_text(encoding="utf-8"))
    return {name: _benchmark(name, entry) for name, entry in entries.items()}


def _benchmark(name: str, entry: Mapping[str, Any]) -> Benchmark:
    lists = {
        "splits": {split: tuple(files) for split, files in entry.get("splits", {}).items()},
        "pipeline": tuple(entry.get("pipeline", ())),
    }
    try:
        return Benchmark(**{"name": name, "module": name, "source": name, **entry, **lists})
    except TypeError as error:
        raise ValueError(f"{HUB_FILE.name}, {name}: {error}") from None


@cache
def _benchmarks_by_source() -> Mapping[str, Benchmark]:
    """Of two benchmarks with one source (MBPP and its sanitized part) the first."""
    return {item.source: item for item in reversed(list(benchmarks().values()))}


def metric_of(source: str) -> str | None:
    """Return the metric that a benchmark names as its own, by what its problems call their source; `None` for its
    domain's, and for every other source."""
    known = _benchmarks_by_source().get(source.lower())
    return None if known is None else known.metric


def source_domains() -> dict[str, Domain]:
    """Return every source, in lower case, whose name tells the domain of its problems, with that domain."""
    named = {source: row.name for row in DOMAINS.values() for source in row.sources}
    found = {**_benchmarks_by_source(), **benchmarks()}
    return {**named, **{name: item.domain for name, item in found.items()}}
