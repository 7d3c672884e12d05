"""The benchmarks that people publish numbers on: how their rows become problems.

One module a benchmark, with an example row and the source of its rule for the gold answer, and one entry in `hub.yaml`
that says everything else. The module's `problem_row` reads a row of any split; one whose rows differ has a function of
its own, `train_row`, say.
"""

from collections.abc import Callable
from importlib import import_module

from data.benchmarks.row import Row
from data.catalogue import Benchmark, benchmarks
from data.problem import DataError

Converter = Callable[[Row], Row]

__all__ = ["Benchmark", "Converter", "benchmark", "benchmarks", "converter"]


def benchmark(name: str) -> Benchmark:
    """Return a benchmark by name.

    Raises:
        DataError: there is none of this name; lists them.
    """
    if name not in benchmarks():
        raise DataError(f"unknown benchmark {name!r}; known: {', '.join(benchmarks())}")
    return benchmarks()[name]


def converter(name: str, split: str) -> Converter:
    """Return what turns a raw row of a benchmark's split into a `Problem` row, with its source and domain.

    Raises:
        DataError: there is no benchmark of this name, or no module that reads its rows.
    """
    known = benchmark(name)
    try:
        module = import_module(f"data.benchmarks.{known.module}")
        read: Converter = getattr(module, f"{split}_row", None) or module.problem_row
    except (ModuleNotFoundError, AttributeError) as error:
        where = f"data/benchmarks/{known.module}.py"
        raise DataError(f"benchmark {name!r} needs {where} with `problem_row`: {error}") from None
    return lambda row: {"source": known.source, "domain": known.domain, **read(row)}
