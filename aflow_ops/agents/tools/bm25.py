"""BM25 over passages in memory (Robertson & Zaragoza, 2009), by `bm25s` (https://arxiv.org/abs/2407.03618)."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from aflow_ops.agents.tools.retriever import check_topk, usable_query
from data.passages import Passage

_WORD = re.compile(r"\w+")
# Words that say nothing about what is asked for.
STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "but", "by", "did", "do", "does"}
    | {"for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in"}
    | {"into", "is", "it", "its", "of", "on", "or", "she", "that", "the", "their", "them"}
    | {"they", "this", "to", "was", "were", "what", "when", "where", "which", "who", "whom", "whose"}
    | {"why", "will", "with", "you"}
)


def words_of(text: str) -> list[str]:
    """The words of a text by which it is found: without case, accents, stop words and the plural's `s`."""
    plain = unicodedata.normalize("NFKD", text.lower())
    words = _WORD.findall("".join(char for char in plain if not unicodedata.combining(char)))
    return [_singular(word) for word in words if word not in STOP_WORDS]


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


class BM25Retriever:
    """A retriever over a fixed list of passages.

    Args:
        passages (`Sequence[Passage]`): at least one; titles are searched too.

    Raises:
        ValueError: there are none.

    Example:

        >>> import asyncio
        >>> from data.passages import Passage
        >>> retriever = BM25Retriever([Passage("1", "Ferns", "They have spores."), Passage("2", "Pines", "Seeds.")])
        >>> [found.id for found in asyncio.run(retriever.search("spores of a fern", topk=1))]
        ['1']
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        if not passages:
            raise ValueError("a retriever needs at least one passage")
        import bm25s  # half a second, and only searches need it

        self.passages = tuple(passages)
        self._index = bm25s.BM25()
        corpus = [words_of(f"{passage.title} {passage.text}") for passage in self.passages]
        self._known = frozenset(word for words in corpus for word in words)
        if self._known:
            self._index.index(corpus, show_progress=False)

    async def search(self, query: str, topk: int) -> list[Passage]:
        """Return the passages that share a word with the query, the best first; see `Retriever.search`."""
        check_topk(topk)
        words = [word for word in dict.fromkeys(words_of(usable_query(query))) if word in self._known]
        if not words:
            return []
        count = min(topk, len(self.passages))
        numbers, scores = self._index.retrieve([words], k=count, show_progress=False)
        found = sorted(zip(numbers[0].tolist(), scores[0].tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        return [replace(self.passages[number], score=float(score)) for number, score in found if score > 0]
