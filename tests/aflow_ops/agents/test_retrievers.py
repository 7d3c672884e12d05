"""Searches find what they should, and no query, answer or loop breaks more than itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.agents.tools import retriever_server
from aflow_ops.agents.tools.bm25 import BM25Retriever
from aflow_ops.agents.tools.calls import ToolCalls, ToolRefusalError, ToolTimeoutError
from aflow_ops.agents.tools.documents import Documents
from aflow_ops.agents.tools.retriever import MAX_QUERY_CHARS, SearchError, usable_query
from aflow_ops.agents.tools.retriever_server import ServerRetriever
from aflow_ops.errors import InfraError, UsageError
from data.invented_worlds import invented_worlds
from data.passages import Needed, Passage, documents, passages_of, read_documents, union
from data.problem import DataError, Problem
from data.registry import load_problems
from tests.patience import PATIENCE

PASSAGES = [
    Passage("1", "Ferns", "They reproduce with spores, not seeds."),
    Passage("2", "Pines", "Their cones hold the seeds."),
    Passage("3", "Café", "A café in Quorby."),
]


async def ids(query: str, topk: int = 3) -> list[str]:
    return [passage.id for passage in await BM25Retriever(PASSAGES).search(query, topk)]


async def test_what_fits_best_comes_first_and_what_shares_no_word_not_at_all() -> None:
    assert await ids("Which plants reproduce with spores?") == ["1"]
    assert await ids("seeds of pines") == ["2", "1"]
    assert await ids("seeds of pines", topk=1) == ["2"]
    assert await ids("CAFES") == ["3"]  # case, accents and plurals do not matter
    assert await ids("Where is the?") == await ids("") == await ids("zebra") == []
    scores = [passage.score for passage in await BM25Retriever(PASSAGES).search("seeds of pines", 3)]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0


@pytest.mark.parametrize(
    "query", ["seeds " * 200_000, "\x00\n\t seeds \u2028", "seeds" + "\ud800", "(" * 10**6, "🌲" * 10**6]
)
async def test_a_query_of_a_megabyte_is_a_query(query: str) -> None:
    assert len(usable_query(query)) <= MAX_QUERY_CHARS
    assert await ids(query) in (["2", "1"], ["1", "2"], [])


@given(st.text())
def test_a_usable_query_is_one_line_of_printable_text(text: str) -> None:
    query = usable_query(text)
    assert len(query) <= MAX_QUERY_CHARS and query == query.strip() and "\n" not in query
    query.encode()  # nothing that no JSON could carry


async def test_a_retriever_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BM25Retriever([])
    with pytest.raises(ValueError, match="topk=0"):
        await BM25Retriever(PASSAGES).search("x", 0)
    assert await BM25Retriever([Passage("1", "", "the of")]).search("the", 3) == []  # nothing but stop words


async def test_the_facts_of_an_invented_world_can_be_found_one_after_the_other() -> None:
    for problem in islice(invented_worlds(3), 60):
        passages = passages_of(problem)
        by_id = {passage.id: passage for passage in passages}
        retriever = BM25Retriever(passages)
        for name in Needed.by(problem).names:
            query = by_id[name].text.rstrip(".")
            assert name in [found.id for found in await retriever.search(query, 3)]


async def test_contexts_of_benchmarks_are_corpora() -> None:
    problems = load_problems("invented_facts", "train", 20, 0)
    corpus = union(passages_of(problem) for problem in problems)
    assert len({passage.id for passage in corpus}) == len(corpus)
    for problem in problems:
        own = passages_of(problem)
        assert any(Needed.by(problem).key(passage) in Needed.by(problem).names for passage in own)
        best = (await BM25Retriever(own).search(problem.question, 1))[0]
        assert best.text in str(problem.context)


# The server's protocol, over real HTTP


@asynccontextmanager
async def server(answer: Callable[[dict[str, Any]], Any]) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    async def retrieve(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json())
        given = answer(asked[-1])
        if asyncio.iscoroutine(given):
            given = await given
        return given if isinstance(given, web.StreamResponse) else web.json_response(given)

    app = web.Application()
    app.router.add_post("/retrieve", retrieve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/retrieve", asked
    finally:
        await runner.cleanup()


SCORED = {"result": [[{"document": {"id": "7", "contents": '"Ferns"\nThey have spores.'}, "score": 3.5}]]}
PLAIN = {"result": [[{"id": 8, "contents": "Only a text."}, {"title": "T", "text": "x" * 20_000}]]}


async def test_a_server_is_asked_in_the_usual_protocol() -> None:
    async with server(lambda body: SCORED) as (url, asked), ServerRetriever(url) as retriever:
        assert await retriever.search("spores?", 4) == [Passage("7", "Ferns", "They have spores.", 3.5)]
        assert asked == [{"queries": ["spores?"], "topk": 4, "return_scores": True}]
        assert await retriever.search("  \n", 4) == [] and len(asked) == 1
        await retriever.search("x" * 10**6, 1)
        assert len(asked[-1]["queries"][0]) == MAX_QUERY_CHARS
    async with server(lambda body: PLAIN) as (url, _), ServerRetriever(url) as retriever:
        found = await retriever.search("a", 2)
        assert [(p.id, p.title, len(p.text), p.score) for p in found] == [("8", "", 12, 1.0), ("2", "T", 10_000, 0.5)]
        assert len(await retriever.search("a", 1)) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"results": []}, "must answer"),
        ({"result": []}, "must answer"),
        ({"result": [[{"document": {"id": "1"}}]]}, "needs text or contents"),
        ({"result": [["text"]]}, "must be an object"),
        ([], "must answer"),
        (web.Response(text="<html>"), "no JSON"),
        (web.Response(text="[" * 100_000), "no JSON"),
        (web.Response(status=404, text="nobody"), "status 404: nobody"),
        (web.Response(status=302, headers={"Location": "http://example.org"}), "status 302"),
        (web.Response(body=b" " * (5 << 20)), "more than 4 MB"),
    ],
)
async def test_what_a_server_gets_wrong_is_no_wrong_answer(answer: Any, reason: str) -> None:
    async with server(lambda body: answer) as (url, _), ServerRetriever(url) as retriever:
        with pytest.raises(SearchError, match=reason) as raised:
            await retriever.search("a", 1)
    assert isinstance(raised.value, InfraError)


async def test_a_server_that_stumbles_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retriever_server, "PAUSE_SECONDS", 0.0)
    answers = [web.Response(status=503), web.Response(status=429), SCORED]
    async with server(lambda body: answers.pop(0)) as (url, asked), ServerRetriever(url) as retriever:
        assert await retriever.search("a", 1)
        assert len(asked) == 3
    with pytest.raises(SearchError, match="failed"):
        await ServerRetriever("http://127.0.0.1:1/retrieve", max_retries=1).search("a", 1)


async def test_a_server_that_hangs_is_given_up() -> None:
    async def hang() -> web.Response:
        await asyncio.sleep(PATIENCE)
        raise AssertionError

    async with server(lambda body: hang()) as (url, _), ServerRetriever(url, timeout=0.1, max_retries=0) as retriever:
        with pytest.raises(SearchError, match=r"no answer in 0\.1 s"):
            await retriever.search("a", 1)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/y", "/retrieve", "", "http://[::1", "http://x:port/y", "http://:80/"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        ServerRetriever(url)


# Reading


def test_documents_are_read_page_by_page(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Ferns\n\n" + "They have spores.\n" * 20)
    read = Documents(read_documents(tmp_path), page_chars=200)
    first, *_, last = pages = [read.read("notes.md#3", page) for page in (1, 2)]
    assert first.startswith("notes.md, page 1 of 2: Ferns\n# Ferns") and last.endswith("spores.")
    assert all(len(page) < 260 for page in pages)
    for name, page in (("notes.md", 3), ("notes.md", 0), ("notes.md", -1)):
        with pytest.raises(ToolRefusalError, match="pages 1 to 2"):
            read.read(name, page)
    for name in ("../notes.md", "/etc/passwd", "", "x" * 10**6):
        with pytest.raises(ToolRefusalError, match=r"no document.*there are notes\.md"):
            read.read(name)


def test_who_reads_a_page_has_seen_no_other_one() -> None:
    read = Documents([Passage("a.md", "A", "first line\nsecond line")], page_chars=12)
    (seen,) = read.passages_on(read.read("a.md", 1), "a.md")
    assert seen.id == "a.md" and "first" in seen.text and "second" not in seen.text


@pytest.mark.parametrize("extra", [{}, {"passages": []}])
def test_a_problem_without_passages_says_so(extra: dict[str, Any]) -> None:
    row = {"question": "q", "answer": "a", "source": "mine", "domain": "qa", "context": " \n", "extra": extra}
    with pytest.raises(DataError, match="brings no passages"):
        passages_of(Problem.from_row(row))


def test_the_documents_of_a_world_say_all_of_somebody() -> None:
    passages = passages_of(next(invented_worlds(0)))
    read = Documents(documents(passages))
    for passage in passages:
        assert f"[{passage.id}] {passage.text}" in read.read(passage.title)


# Calls


async def test_a_loop_of_calls_ends_by_itself_and_runs_nothing_twice() -> None:
    runs = 0

    async def work() -> str:
        nonlocal runs
        runs += 1
        return "found"

    calls = ToolCalls(max_calls=5)
    replies = [await calls("search", "ferns", work) for _ in range(1000)]
    assert runs == 1 and replies[:5] == ["found"] * 5 and "no tool call is left" in replies[-1]
    assert [call.ok for call in calls.calls[:2]] == [True, False] and calls.succeeded == 1 and calls.left == 0
    assert len(calls.calls) <= 20


async def test_refusals_are_told_and_recorded_and_long_replies_cut() -> None:
    calls = ToolCalls(max_chars=10)

    async def refuse() -> str:
        raise ToolRefusalError("no")

    async def long() -> str:
        return "x" * 10**6

    assert await calls("read", "a" * 10**6, refuse) == "no" and not calls.calls[0].ok
    assert len(calls.calls[0].argument) == 200
    assert await calls("read", "b", long) == "x" * 10 + "\n[cut: 1000000 characters]"


async def test_a_tool_that_hangs_costs_the_episode_and_not_the_agent() -> None:
    async def hang() -> str:
        await asyncio.sleep(PATIENCE)
        return ""

    with pytest.raises(ToolTimeoutError, match="more than"):
        await ToolCalls(seconds=0.05)("search", "x", hang)
    assert issubclass(ToolTimeoutError, InfraError)
