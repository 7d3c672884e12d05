"""The problems of a search: a validation slice to choose by, and a held-out slice to report on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.search.plan import call, print_plan
from data.problem import DataError, Domain, Problem
from data.registry import Split, load_problems
from scripts.evaluating.shards import Shard


@dataclass(frozen=True)
class Slices:
    """Problems by the id that the search uses.

    Args:
        validation (`dict[str, Problem]`): from the sources' training parts, in the order in which rungs spend them.
        heldout (`dict[str, Problem]`): from their held-out parts.
    """

    validation: dict[str, Problem]
    heldout: dict[str, Problem]

    def part(self, shard: Shard) -> "Slices":
        """Return one shard's problems.

        Raises:
            UsageError: there are fewer problems than shards.
        """
        keys = list(self.validation)
        own = [keys[index] for index in shard.part(len(keys))]
        return Slices({key: self.validation[key] for key in own}, self.heldout)

    @property
    def all(self) -> dict[str, Problem]:
        """Both."""
        return {**self.validation, **self.heldout}

    @property
    def kinds(self) -> list[tuple[Domain, bool]]:
        """Domain, and whether there is an entry point, of every kind of problem."""
        return kinds_of(self.all.values())


def kinds_of(problems: Iterable[Problem]) -> list[tuple[Domain, bool]]:
    """Return domain, and whether there is an entry point, of every kind among some problems."""
    return sorted({(problem.domain, problem.entry_point is not None) for problem in problems})


def read_slices(sources: Sequence[str], validation: int, heldout: int, seed: int) -> Slices:
    """Read both slices, the sources' shares equal and their problems interleaved.

    Args:
        sources (`Sequence[str]`): names of the registry, or JSONL files.
        validation (`int`): problems to choose by, at least 1.
        heldout (`int`): problems to report on; 0 for none.
        seed (`int`): which problems of a generator, and their order.

    Raises:
        DataError: an unknown source, a bad file, or too few problems.
    """
    return Slices(_slice(sources, "train", validation, seed), _slice(sources, "heldout", heldout, seed))


def _slice(sources: Sequence[str], split: Split, count: int, seed: int) -> dict[str, Problem]:
    if count < 1:
        return {}
    share = -(-count // len(sources))
    columns = [load_problems(source, split, share, seed) for source in sources]
    rows = [column[index] for index in range(share) for column in columns if index < len(column)][:count]
    if len(rows) < count:
        part = "validation" if split == "train" else "held-out"
        raise DataError(f"--{part.replace('-', '')}_problems {count}: {', '.join(sources)} have {len(rows)} only")
    return {f"{problem.source}/{problem.id}": problem for problem in rows}


def checker(kinds: Sequence[tuple[Domain, bool]]) -> Callable[[str], Workflow]:
    """Return the workflow language's verdict for a search's problems.

    A workflow that fits one kind of problem is one; on the others it earns nothing.

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point.
    """

    def check(completion: str) -> Workflow:
        errors = []
        for domain, has_entry_point in kinds:
            try:
                return parse_workflow(completion, domain=domain, has_entry_point=has_entry_point)
            except WorkflowError as error:
                errors.append(error)
        raise errors[0]

    return check


def root_workflow(kinds: Sequence[tuple[Domain, bool]]) -> str:
    """Return the workflow that a search starts from when it is given none: AFlow's, one Custom call.

    Raises:
        UsageError: there are no problems.
    """
    if not kinds:
        raise UsageError("a search needs problems")
    code = all(flag for _, flag in kinds)
    return print_plan(call("CustomCodeGenerate" if code else "Custom"), has_entry_point=code)
