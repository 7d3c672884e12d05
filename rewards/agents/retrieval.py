"""What a search found: shares of the passages that are needed, which no agent is told.

needed {"p1", "p7"}; the searches found [["p3", "p1"], ["p1", "p9"]]: half of what is needed, in the first search.
"""

from collections.abc import Collection, Sequence

# Of a query's credit: what part is for finding it early, so that one good query earns more than a heap of guesses.
PRECISION_SHARE = 0.2


def coverage(found: Collection[str], needed: Collection[str]) -> float:
    """Return the share of the needed passages that were found; 1 when none is needed.

    Args:
        found (`Collection[str]`): ids, of any number.
        needed (`Collection[str]`): ids that the answer rests on.

    Example:

        >>> coverage(["p1", "p2"], ["p1", "p7"])
        0.5
    """
    wanted = frozenset(needed)
    return len(wanted & frozenset(found)) / len(wanted) if wanted else 1.0


def kept_passages(found: Collection[str], kept: Sequence[str], needed: Collection[str]) -> float | None:
    """Return how well somebody chose among what was found: F1 of what was kept; `None` when there was nothing to keep.

    Recall is over the needed passages that were found: whoever chooses cannot keep what nobody found.

    Args:
        found (`Collection[str]`): ids of the search results.
        kept (`Sequence[str]`): ids that were chosen; one that was not found, or stands there twice, counts as wrong.
        needed (`Collection[str]`): ids that the answer rests on.

    Example:

        >>> kept_passages(["p1", "p2", "p3"], ["p1", "p2"], ["p1", "p7"])
        0.6666666666666666
    """
    there = frozenset(needed) & frozenset(found)
    if not there:
        return None
    right = len(there & frozenset(kept))
    return 2 * right / (len(there) + len(kept))


def query_credit(searches: Sequence[Sequence[str]], needed: Collection[str]) -> float:
    """Return what an agent's queries earned by what they found, not by how many they are.

    Most of it is the share of the needed passages that they found together. The rest is how many of the queries found a
    needed passage that no query before had found, so that one more query without a find, or a repetition, costs.

    Args:
        searches (`Sequence[Sequence[str]]`): ids that each query found, in the order of the queries.
        needed (`Collection[str]`): ids that the answer rests on.

    Example:

        >>> query_credit([["p1", "p3"], ["p7"]], ["p1", "p7"]), query_credit([["p1"], ["p1"]], ["p1", "p7"])
        (1.0, 0.5)
    """
    if not searches:
        return 0.0
    wanted, seen, useful = frozenset(needed), set[str](), 0
    for found in searches:
        fresh = (wanted & frozenset(found)) - seen
        useful += bool(fresh)
        seen |= fresh
    return (1 - PRECISION_SHARE) * coverage(seen, wanted) + PRECISION_SHARE * useful / len(searches)
