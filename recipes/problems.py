"""Problems of a run: sources by name or file, mixed by domain."""

from collections.abc import Mapping, Sequence
from typing import Literal

from aflow_ops.errors import UsageError
from data.mixing import mix
from data.problem import Domain, Problem
from data.registry import load_problems


def mixed_problems(
    sources: Sequence[str],
    ratios: Mapping[Domain, float],
    count: int,
    split: Literal["train", "heldout"],
    seed: int,
) -> list[Problem]:
    """Return `count` problems of the named sources with the domains in exact proportion.

    Sources of one domain share its part evenly; a finite source that is too small is cycled in training.

    Raises:
        UsageError: an unknown source, a bad file, or a domain with a share but no source.
    """
    by_domain: dict[Domain, list[Problem]] = {}
    try:
        columns = [load_problems(source, split, count, seed) for source in sources]
        for problem in interleave(columns):
            by_domain.setdefault(problem.domain, []).append(problem)
        return mix(by_domain, ratios, count, seed)
    except ValueError as error:
        raise UsageError(str(error)) from error


def interleave(columns: Sequence[Sequence[Problem]]) -> list[Problem]:
    """Interleave several lists: first rows first, then second rows, and so on."""
    longest = max((len(column) for column in columns), default=0)
    return [column[index] for index in range(longest) for column in columns if index < len(column)]
