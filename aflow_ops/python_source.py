"""Python that nobody trusts, parsed in this process and never run.

Python's parser takes time in proportion to what it reads, but for one thing: it normalises names, which sorts the
combining marks of a run by insertion, so that a name of 40,000 marks takes it seven seconds.
"""

import ast
import unicodedata
from itertools import groupby

# What every workflow has without importing it.
MODULES_AT_HAND = ("asyncio", "collections", "json", "math", "random", "re")
# More marks on one letter than any text has that is meant to be read (UAX #15, stream-safe text).
MAX_MARKS = 30


def parse_source(text: str, name: str = "<source>", feature_version: tuple[int, int] | None = None) -> ast.Module:
    """Return the tree of a source.

    Args:
        text (`str`): anything.
        name (`str`): of its file, in warnings and errors.
        feature_version (`tuple[int, int]`, *optional*): the Python whose grammar it is held to.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse`, and for a run of combining marks.
    """
    if not text.isascii() and longest_marks(text) > MAX_MARKS:
        raise SyntaxError("too many combining marks in a row")
    return ast.parse(text, name, feature_version=feature_version)


def longest_marks(text: str) -> int:
    """Return the length of the longest run of combining marks."""
    runs = groupby(map(unicodedata.combining, text), key=bool)
    return max((len(list(run)) for marked, run in runs if marked), default=0)
