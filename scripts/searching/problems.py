"""The problems of a search: a validation slice to choose by, and a held-out slice to report on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from aflow_ops.search.kinds import kinds_of
from data.problem import DataError, Domain, Problem
from data.registry import Split, load_problems
from scripts.evaluating.shards import Shard


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


def read_slices(sources: Sequence[str], validation: int, heldout: int, seed: int, final: int = 0) -> Slices:
    """Read the slices, the sources' shares equal and their problems interleaved.

    Args:
        sources (`Sequence[str]`): names of the registry, or JSONL files.
        validation (`int`): problems to choose by, at least 1.
        heldout (`int`): problems to report on; 0 for none.
        seed (`int`): which problems of a generator, and their order.
        final (`int`): problems to choose by among the best; 0 for none.

    Raises:
        DataError: an unknown source, a bad file, or too few problems.
    """
    seen = _slice(sources, "train", validation + final, seed)
    first = dict(islice(seen.items(), validation))
    fresh = {key: problem for key, problem in seen.items() if key not in first}
    return Slices(first, fresh, _slice(sources, "heldout", heldout, seed))


def _slice(sources: Sequence[str], split: Split, count: int, seed: int) -> dict[str, Problem]:
    if count < 1:
        return {}
    share = -(-count // len(sources))
    columns = [load_problems(source, split, share, seed) for source in sources]
    rows = [column[index] for index in range(share) for column in columns if index < len(column)][:count]
    if len(rows) < count:
        flag = "--validation_problems" if split == "train" else "--heldout_problems"
        raise DataError(
            f"{flag} {count}: {', '.join(sources)} has {len(rows)} only; give more data, or at most {flag} {len(rows)}"
        )
    return {f"{problem.source}/{problem.id}": problem for problem in rows}
