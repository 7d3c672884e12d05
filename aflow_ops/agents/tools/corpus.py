"""Where an episode searches and reads: the problem's own passages, a corpus for all, or a server."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from aflow_ops.agents.tools.bm25 import BM25Retriever
from aflow_ops.agents.tools.documents import Documents
from aflow_ops.agents.tools.retriever import Retriever
from aflow_ops.agents.tools.retriever_server import ServerRetriever
from aflow_ops.errors import UsageError
from data.passages import documents, passages_of, read_corpus, read_documents
from data.problem import DataError, Problem

OWN = "own"


@dataclass(frozen=True)
class Corpus:
    """What agents search and read.

    Args:
        retriever (`Callable`): opens the retriever of a problem.
        documents (`Callable`): gives a problem its documents: passages joined by their titles, or a folder's files.
    """

    retriever: Callable[[Problem], AbstractAsyncContextManager[Retriever]]
    documents: Callable[[Problem], Documents]


def open_corpus(corpus: str = OWN, retriever_url: str | None = None) -> Corpus:
    """Return what agents search and read.

    Args:
        corpus (`str`): `"own"` for the passages that each problem brings along, else a path (`data/passages.py`).
        retriever_url (`str`, *optional*): a server instead, which has no documents to read.

    Raises:
        UsageError: both are given, or one cannot be used.
    """
    if retriever_url:
        if corpus != OWN:
            raise UsageError(f"corpus={corpus} and retriever_url={retriever_url}: searches go to one of them")
        ServerRetriever(retriever_url)  # a bad address is said at once
        return Corpus(lambda problem: ServerRetriever(retriever_url), lambda problem: Documents([]))
    if corpus == OWN:
        return Corpus(
            lambda problem: nullcontext(BM25Retriever(passages_of(problem))),
            lambda problem: Documents(documents(passages_of(problem))),
        )
    path = Path(corpus)
    try:
        passages = read_corpus(path)
        whole = Documents(read_documents(path) if path.is_dir() else documents(passages))
    except DataError as error:
        raise UsageError(f"corpus: {error}") from None
    shared = BM25Retriever(passages)
    return Corpus(lambda problem: nullcontext(shared), lambda problem: whole)
