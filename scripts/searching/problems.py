"""The problems of a search: a validation slice to choose by, and a held-out slice to report on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from aflow_ops.search.kinds import kinds_of
from data.problem import DataError, Domain, Problem
from data.registry import Split, load_problems
from scripts.evaluating.shards import Shard

# Problems of a slice where nobody says how many.
VALIDATION, HELDOUT = 32, 60
_FLAGS: dict[Split, str] = {"train": "--validation_problems", "heldout": "--heldout_problems"}


@dataclass(frozen=True)
class Slices:
    """Problems by the id that the search uses.

    Args:
        validation (`dict[str, Problem]`): from the sources' training parts, in the order in which rungs spend them.
        final (`dict[str, Problem]`): further ones, to choose by among the best.
        heldout (`dict[str, Problem]`): from their held-out parts.
    """

    validation: dict[str, Problem]
    final: dict[str, Problem]
    heldout: dict[str, Problem]

    def part(self, shard: Shard) -> "Slices":
        """Return one shard's problems.

        Raises:
            UsageError: there are fewer problems than shards.
        """
        keys = list(self.validation)
        own = [keys[index] for index in shard.part(len(keys))]
        return replace(self, validation={key: self.validation[key] for key in own})

    @property
    def all(self) -> dict[str, Problem]:
        """All of them."""
        return {**self.validation, **self.final, **self.heldout}

    @property
    def kinds(self) -> list[tuple[Domain, bool]]:
        """Domain, and whether there is an entry point, of every kind of problem."""
        return kinds_of(self.all.values())


def read_slices(
    sources: Sequence[str], validation: int | None, heldout: int | None, seed: int, final: int = 0
) -> Slices:
    """Read the slices, the sources' shares equal and their problems interleaved.

    Args:
        sources (`Sequence[str]`): names of the registry, or JSONL files.
        validation (`int`, *optional*): problems to choose by, at least 1; as many as there are up to `VALIDATION`, if
            not given.
        heldout (`int`, *optional*): problems to report on; 0 for none; likewise, up to `HELDOUT`.
        seed (`int`): which problems of a generator, and their order.
        final (`int`): problems to choose by among the best; 0 for none.

    Raises:
        DataError: an unknown source, a bad file, too few problems, or two problems with one name.
    """
    wanted = (VALIDATION if validation is None else validation) + final
    seen = _slice(sources, "train", wanted, wanted if validation is not None else final + 1, seed)
    first = dict(islice(seen.items(), max(1, len(seen) - final)))
    fresh = {key: problem for key, problem in seen.items() if key not in first}
    wanted = HELDOUT if heldout is None else heldout
    unseen = _slice(sources, "heldout", wanted, wanted if heldout is not None else 1, seed)
    for key in unseen.keys() & seen.keys():
        raise _two_of_a_name(key)
    return Slices(first, fresh, unseen)


def _slice(sources: Sequence[str], split: Split, count: int, least: int, seed: int) -> dict[str, Problem]:
    if count < 1:
        return {}
    share = -(-count // len(sources))
    columns = [load_problems(source, split, share, seed) for source in sources]
    rows = [column[index] for index in range(share) for column in columns if index < len(column)][:count]
    flag, names = _FLAGS[split], ", ".join(sources)
    if len(rows) < least:
        raise DataError(f"{flag} {count}: {names} has {len(rows)} only; give more data, or at most {flag} {len(rows)}")
    if len(rows) < count:
        print(f"{names}: {flag} {len(rows)}, which is all that there are", file=sys.stderr)
    found: dict[str, Problem] = {}
    for problem in rows:
        key = f"{problem.source}/{problem.id}"
        if found.setdefault(key, problem).view != problem.view:
            raise _two_of_a_name(key)
    return found


def _two_of_a_name(key: str) -> DataError:
    return DataError(f"--data has two problems that are called {key}: give each an id of its own, or leave id out")
