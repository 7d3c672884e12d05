"""A stand-in for the paid endpoint: a real HTTP server that speaks `/v1/chat/completions`.

What it answers is set by whoever opens it; what it was asked is kept.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Messages = list[dict[str, str]]
Answer = Callable[[Messages], "str | Failure | Broken | Raw"]


@dataclass(frozen=True)
class Failure:
    """An error response."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Broken:
    """A reply that is none: `cut` (connection closed), `truncated`, `empty` (no choices), `html`, or `slow`."""

    kind: str


@dataclass(frozen=True)
class Raw:
    """A response as it goes over the wire; a body that is not text or bytes is sent as JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """What aiohttp sends."""
        text = self.body if isinstance(self.body, (str, bytes)) else json.dumps(self.body)
        body = text.encode() if isinstance(text, str) else text
        return web.Response(body=body, status=self.status, headers={"Content-Type": "application/json", **self.headers})


class StubEndpoint:
    """Serves on loopback from a thread of its own while used as a context manager.

    Args:
        answer (`Callable`, *optional*): from the messages of a request to the reply's text, a `Failure` or a `Broken`
            reply; `"42"` by default.
        latency (`float`): seconds before each reply.

    Attributes:
        requests (`list[dict]`): bodies of the requests so far.
        keys (`list[str | None]`): their `Authorization` headers.
        queries (`list[dict]`): what followed the `?` of their addresses.
        most_in_flight (`int`): most requests at one time.
    """

    def __init__(self, answer: Answer | None = None, latency: float = 0.0) -> None:
        self.answer: Answer = answer or (lambda messages: "42")
        self.latency = latency
        self.slow_seconds = 30.0
        self.held = False  # while it is, every request waits
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.queries: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """Its base URL, as `--executor_base_url` takes it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "StubEndpoint":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self.queries.append(dict(request.query))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
            while self.held:  # noqa: ASYNC110 - set from another thread
                await asyncio.sleep(0.01)
            answer = self.answer(body["messages"])
        finally:
            self.in_flight -= 1
        if isinstance(answer, Raw):
            return answer.response()
        if isinstance(answer, Broken):
            return await self._broken(request, answer.kind)
        if isinstance(answer, Failure):
            error = {"error": {"message": answer.message, "type": "error", "code": str(answer.status)}}
            return web.json_response(error, status=answer.status, headers=answer.headers)
        prompt_tokens = sum(len(message["content"].split()) for message in body["messages"])
        return web.json_response(
            {
                "id": "chatcmpl-stub",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": len(answer.split()),
                    "total_tokens": prompt_tokens + len(answer.split()),
                },
            }
        )

    async def _broken(self, request: web.Request, kind: str) -> web.Response:
        if kind == "cut":
            assert request.transport is not None
            request.transport.close()
        if kind == "slow":
            await asyncio.sleep(self.slow_seconds)
        json_type = "application/json"
        texts = {
            "truncated": ('{"id": "x", "object": "chat.completion", "choices": [{"ind', json_type),
            "empty": ('{"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}', json_type),
            "html": ("<html>502 Bad Gateway</html>", "text/html"),
        }
        text, content_type = texts.get(kind, ("{}", json_type))
        return web.Response(text=text, content_type=content_type)


def main() -> None:
    """Serve until standard input ends: `python -m scripts.benching.endpoint 0.5` prints its address."""
    latency = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    with StubEndpoint(latency=latency) as stub:
        print(stub.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
