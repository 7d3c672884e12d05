"""A retriever behind HTTP, in the protocol of Search-R1's server (https://github.com/PeterGriffinJin/Search-R1).

    POST {"queries": ["spores of a fern"], "topk": 3, "return_scores": true}
    ->   {"result": [[{"document": {"id": "0", "contents": "\\"Ferns\\"\\nFerns have spores."}, "score": 7.1}, ...]]}

Without scores, the documents stand in the list themselves.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from aflow_ops.agents.tools.retriever import SearchError, check_topk, usable_query
from aflow_ops.errors import UsageError
from data.passages import Passage

TIMEOUT_SECONDS = 20.0
MAX_RETRIES = 2
PAUSE_SECONDS = 0.5
# Of an answer; of a passage's text, what is beyond that no agent reads.
MAX_ANSWER_BYTES = 4 << 20
MAX_PASSAGE_CHARS = 10_000


class ServerRetriever:
    """Asks a retrieval server. An async context manager; one connection pool for all searches.

    Args:
        url (`str`): where queries are posted to, such as `http://localhost:8000/retrieve`.
        timeout (`float`): seconds for one attempt.
        concurrency (`int`): searches at a time.
        max_retries (`int`): attempts after the first, when the server is not there or says 5xx or 429.

    Raises:
        UsageError: this is no HTTP address.
    """

    def __init__(
        self, url: str, *, timeout: float = TIMEOUT_SECONDS, concurrency: int = 32, max_retries: int = MAX_RETRIES
    ) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number, half an IPv6 address
            usable = False
        if not usable:
            raise UsageError(f"retriever_url={url!r} is no address: give one like http://localhost:8000/retrieve")
        self.url = url
        self._timeout, self._retries = timeout, max_retries
        self._slots = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ServerRetriever":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def search(self, query: str, topk: int) -> list[Passage]:
        """Return what the server finds; see `Retriever.search`."""
        check_topk(topk)
        asked = usable_query(query)
        if not asked:
            return []
        async with self._slots:
            answer = await self._post({"queries": [asked], "topk": topk, "return_scores": True})
        return found_passages(answer, topk, self.url)

    async def _post(self, body: Mapping[str, Any]) -> Any:
        problem = ""
        for attempt in range(self._retries + 1):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                status, text = await self._once(body)
            except TimeoutError:
                problem = f"no answer in {self._timeout:g} s"
                continue
            except (aiohttp.ClientError, OSError) as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if status == 200:
                return _json(text, self.url)
            problem = f"status {status}: {text[:200].decode('utf-8', 'replace')}"
            if status < 500 and status != 429:
                break
        raise SearchError(f"the retriever at {self.url} failed: {problem}")

    async def _once(self, body: Mapping[str, Any]) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        async with self._session.post(self.url, json=body, allow_redirects=False) as response:
            parts, size = [], 0
            async for part in response.content.iter_chunked(1 << 16):
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise SearchError(f"the retriever at {self.url} sent more than {MAX_ANSWER_BYTES >> 20} MB")
                parts.append(part)
            return response.status, b"".join(parts)


def _json(text: bytes, url: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SearchError(f"the retriever at {url} sent no JSON: {text[:80]!r}") from None


def found_passages(answer: Any, topk: int, url: str) -> list[Passage]:
    """Read a server's answer to one query.

    Args:
        answer (`Any`): its JSON.
        topk (`int`): what it was asked for; more are left out.
        url (`str`): for the error.

    Raises:
        SearchError: it has another form.
    """
    result = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], list):
        raise SearchError(f'the retriever at {url} must answer {{"result": [[passage, ...]]}}, not {str(answer)[:100]}')
    passages = []
    for number, item in enumerate(result[0][:topk], start=1):
        scored = isinstance(item, Mapping) and isinstance(item.get("document"), Mapping)
        document, score = (item["document"], item.get("score")) if scored else (item, None)
        try:
            if not isinstance(document, Mapping):
                raise ValueError(f"a passage must be an object, not {str(document)[:60]!r}")
            passage = Passage.from_row(document, number)
        except ValueError as error:
            raise SearchError(f"the retriever at {url}: {error}") from None
        passages.append(replace(passage, text=passage.text[:MAX_PASSAGE_CHARS], score=_score(score, number)))
    return passages


def _score(value: Any, number: int) -> float:
    """The server's score, else one that falls with the rank."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else 1.0 / number
