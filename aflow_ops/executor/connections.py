"""One request over the connections of the SDK's client, without the layers between them.

`chat.completions.create` builds each request anew and checks it, which is three quarters of a call's work; of the rest,
half is the client's own requests and responses. What it opens is used as it is: TLS, proxies of the environment, pool.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2  # comes with openai
from aiohttp import ClientError, ClientSession, ClientTimeout, ConnectionTimeoutError

REDIRECTS = (301, 302, 303, 307, 308)


class UnreachableError(Exception):
    """No response came over the network; says why."""


@dataclass(frozen=True)
class Response:
    """What came back.

    Args:
        status (`int`): of HTTP.
        headers (`Mapping[str, str]`): names in any case.
        content (`bytes`): the body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """The connections to one address.

    Args:
        client (`httpx2.AsyncClient`): of the SDK, over aiohttp, with the headers and the time limit of every request.
        url (`httpx2.URL`): where requests go.
    """

    def __init__(self, client: httpx2.AsyncClient, url: httpx2.URL) -> None:
        self._client, self._url, self._address = client, url, str(url)
        self._headers = {**client.headers, "Content-Type": "application/json"}
        limits = client.timeout
        self._timeout = ClientTimeout(connect=limits.pool, sock_connect=limits.connect, sock_read=limits.read)
        self._transport: Any = client._transport_for_url(url)  # there is no public name for it
        self._session: ClientSession | None = None

    async def close(self) -> None:
        """Close them all."""
        await self._client.aclose()

    async def post(self, body: Mapping[str, Any]) -> Response:
        """Send JSON and return what comes, whatever its status.

        Raises:
            TimeoutError: nothing came in time.
            UnreachableError: no connection, or one that broke off.
        """
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            response = None if self._transport.proxy is not None else await self._exchanged(content)
            if response is None or response.status in REDIRECTS:
                response = await self._sent_by_client(content)
            return response
        except ConnectionTimeoutError as error:  # which is a TimeoutError too
            raise UnreachableError(str(error)) from None
        except httpx2.ReadTimeout:
            raise TimeoutError from None
        except (ClientError, httpx2.RequestError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise UnreachableError(str(error)) from None

    async def _exchanged(self, content: bytes) -> Response:
        """Send once over the client's own connections."""
        if self._session is None:
            self._session = self._transport.client = self._transport.get_client()
        async with self._session.post(
            self._address,
            data=content,
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,
            auto_decompress=False,
        ) as response:
            body = await response.read()
        if "Content-Encoding" in response.headers:
            body = httpx2.Response(response.status, headers=response.raw_headers, content=body).content
        return Response(response.status, response.headers, body)

    async def _sent_by_client(self, content: bytes) -> Response:
        """Send as the client does, which knows proxies, and where a key may follow a redirect."""
        response = await self._client.post(self._url, content=content, headers={"Content-Type": "application/json"})
        return Response(response.status_code, response.headers, response.content)
