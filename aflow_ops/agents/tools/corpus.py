"""Where an episode searches: the problem's own passages, a corpus for all, or a server."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from aflow_ops.agents.tools.bm25 import BM25Retriever
from aflow_ops.agents.tools.documents import Documents
from aflow_ops.agents.tools.retriever import Retriever
from aflow_ops.agents.tools.retriever_server import ServerRetriever
from aflow_ops.errors import UsageError
from data.passages import documents, passages_of, read_corpus, read_documents
from data.problem import DataError, Problem

OWN = "own"

RetrieverOf = Callable[[Problem], AbstractAsyncContextManager[Retriever]]


def open_corpus(corpus: str = OWN, retriever_url: str | None = None) -> RetrieverOf:
    """Return what opens the retriever of a problem.

    Args:
        corpus (`str`): `"own"` for the passages that each problem brings along, else a path (`data/passages.py`).
        retriever_url (`str`, *optional*): a server instead.

    Raises:
        UsageError: both are given, or one cannot be used.
    """
    if retriever_url:
        if corpus != OWN:
            raise UsageError(f"corpus={corpus} and retriever_url={retriever_url}: searches go to one of them")
        ServerRetriever(retriever_url)  # a bad address is said at once
        return lambda problem: ServerRetriever(retriever_url)
    if corpus == OWN:
        return lambda problem: nullcontext(BM25Retriever(passages_of(problem)))
    try:
        shared = BM25Retriever(read_corpus(Path(corpus)))
    except DataError as error:
        raise UsageError(f"corpus: {error}") from None
    return lambda problem: nullcontext(shared)


def open_documents(corpus: str = OWN, retriever_url: str | None = None) -> Callable[[Problem], Documents]:
    """Return what gives a problem its documents to read: passages joined by their titles, or a folder's files.

    Args:
        corpus (`str`): as for `open_corpus`.
        retriever_url (`str`, *optional*): then there are none: a server has but passages.
    """
    if retriever_url:
        return lambda problem: Documents([])
    if corpus == OWN:
        return lambda problem: Documents(documents(passages_of(problem)))
    path = Path(corpus)
    shared = Documents(read_documents(path) if path.is_dir() else documents(read_corpus(path)))
    return lambda problem: shared
