"""Search: what every retriever does, and what a query may be."""

import re
import unicodedata
from typing import Protocol

from aflow_ops.errors import InfraError
from data.passages import Passage

# Longer than any question; what an agent writes beyond that is not sent anywhere.
MAX_QUERY_CHARS = 1_000
MAX_TOPK = 50
_SPACE = re.compile(r"\s+")


class SearchError(InfraError):
    """The retriever could not be reached or did not answer usefully: says nothing about the query."""


class Retriever(Protocol):
    """Finds passages. Safe to share between episodes that run at once."""

    async def search(self, query: str, topk: int) -> list[Passage]:
        """Return the passages that fit a query best, the best first, with their scores.

        Args:
            query (`str`): whatever an agent wrote; cut to `MAX_QUERY_CHARS`, and nothing is found for an empty one.
            topk (`int`): at most so many, 1 to `MAX_TOPK`.

        Raises:
            SearchError: the retriever failed.
            ValueError: `topk` is out of range.
        """
        ...


def usable_query(query: str) -> str:
    """Return a query as it is searched for: one line of printable text, cut to `MAX_QUERY_CHARS`.

    Args:
        query (`str`): of an agent. Only its beginning is looked at, however long it is.
    """
    start = query[: 4 * MAX_QUERY_CHARS]
    kept = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in start)
    return _SPACE.sub(" ", kept).strip()[:MAX_QUERY_CHARS]


def check_topk(topk: int) -> int:
    """Return `topk` if it is in range.

    Raises:
        ValueError: it is not.
    """
    if not 1 <= topk <= MAX_TOPK:
        raise ValueError(f"topk={topk} must be from 1 to {MAX_TOPK}")
    return topk
