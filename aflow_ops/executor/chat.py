"""The transport of OpenAI-compatible chat-completions endpoints."""

import asyncio
import ssl
from dataclasses import replace
from functools import cache
from typing import Any

# It comes with openai.
from httpx2 import URL, AsyncClient, Limits, ReadTimeout, RequestError, Response, create_ssl_context

from aflow_ops.executor.address import OPENAI_URL, Address, parse_address
from aflow_ops.executor.config import ExecutorConfig
from aflow_ops.executor.keys import read_key, scrubbed, without_key
from aflow_ops.executor.reading import CutOffThinkingError, read_completion, read_tokens
from aflow_ops.executor.refusals import Refusal, failure_of, read_refusal
from aflow_ops.executor.requests import RequestForm, fitting_limit
from aflow_ops.executor.transport import Call, Completion, Transport, TransportError

# What the client waits for beside the reply itself.
GRACE_SECONDS = 5.0
# How often a limit of completion tokens is lowered for one request.
MOST_LIMITS = 6
# Statuses of a request in the wrong form; chat templates that refuse a role fail with the last.
FORM_STATUSES = (400, 422, 500)
# Statuses of a request that is too long, Together's among them.
LENGTH_STATUSES = (400, 403, 413, 422)
# Where completions are asked for, below the base URL.
COMPLETIONS = "/chat/completions"
# What asks for tokens, and what tells the cache such replies from others.
ASK_TOKENS = {"logprobs": True, "return_tokens_as_token_ids": True}
TOKENS_TOO = " with tokens"
# What a wrong address, model or right is answered with, and now and then a single call.
DENIALS = (403, 404, 405, 410)


class ChatTransport(Transport):
    """One OpenAI-compatible endpoint.

    Args:
        config (`ExecutorConfig`): the flags.
        url (`str`): its base URL.
        form (`RequestForm`): how the model wants to be asked; endpoints of one model share it.
        identity (`str`, *optional*): who answers there; its address by default.
        proven (`bool`): it has answered before. What it says about its address, its model or the key's rights is about
            one call then, not about the run.
        token_ids (`bool`): ask for the ids and log-probabilities of what is written, as vLLM gives them. An endpoint
            that refuses is asked without.

    Raises:
        UsageError: the key cannot be sent.
    """

    def __init__(
        self,
        config: ExecutorConfig,
        url: str,
        form: RequestForm,
        identity: str | None = None,
        *,
        proven: bool = False,
        token_ids: bool = False,
    ) -> None:
        super().__init__(config)
        self.address = parse_address(url)
        self._identity = (identity or self.address.url) + TOKENS_TOO * token_ids
        self._token_ids = token_ids
        self._form = form
        self._key = read_key(config.executor_api_key_env) if config.executor == "openai" else None
        self._client = _client(self.address, self._key, config)
        self._url = URL(f"{self.address.url}{COMPLETIONS}", params=self.address.query)
        self._in_flight = 0
        self._answered, self._denials = proven, 0

    @property
    def identity(self) -> str:
        """The address, or what stands for it."""
        return self._identity

    @property
    def room(self) -> int:  # type: ignore[override]
        """Tokens for thinking, once the model is known to think."""
        return self._form.room

    def __str__(self) -> str:
        return str(self.address)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, call: Call) -> Completion:
        """Send the request once, as the model wants it.

        Raises:
            TransportError: no answer came.
        """
        self._in_flight += 1
        try:
            return await self._send(call)
        finally:
            self._in_flight -= 1

    async def _send(self, call: Call) -> Completion:
        limit = call.max_tokens + self._form.room
        told = ""
        for _ in range(MOST_LIMITS):
            version = self._form.version
            response = await self._post(self._form.request(call, limit) | (ASK_TOKENS if self._token_ids else {}))
            if response.is_success:
                return self._read(response.content, call)
            refusal = read_refusal(response.status_code, response.content, response.headers)
            is_length = refusal.status in LENGTH_STATUSES and not refusal.is_spent
            if not is_length or (fitting := fitting_limit(refusal.text, limit)) is None:
                raise self._refused(refusal, version, call)
            limit, told = fitting, scrubbed(str(refusal), self._key)
        raise TransportError("call", f"no limit of completion tokens fits, not even {limit}: {told}")

    async def _post(self, request: dict[str, Any]) -> Response:
        """Send one request; returns the response, whatever its status, with its body.

        Not by `chat.completions.create`: building each request anew and checking it is three quarters of a call's work.
        """
        timeout = self.config.executor_timeout
        try:
            async with asyncio.timeout(timeout + GRACE_SECONDS):  # `wait_for` would make a task of each call
                return await self._client.post(self._url, json=request)
        except (TimeoutError, ReadTimeout):
            raise TransportError("outage", f"no reply in {timeout:g} s") from None
        except RequestError as error:
            cause = scrubbed(str(error), self._key)[:200]
            raise TransportError(
                "outage", f"cannot be reached; check --executor_base_url and the network: {cause}"
            ) from None

    def _read(self, content: bytes, call: Call) -> Completion:
        try:
            completion, thought = read_completion(content, call)
        except CutOffThinkingError as error:
            if self._form.give_room() and not call.probe:
                raise TransportError("again", str(error), billed=error.billed) from None
            room = f"with {self._form.room} tokens for it; raise --executor_thinking_tokens"
            raise TransportError("call", f"{error} ({room})", billed=error.billed) from None
        except TransportError as error:
            reason = scrubbed(str(error), self._key)
            raise TransportError(error.failure, reason, billed=error.billed) from None
        self._answered = True
        if thought:
            self._form.give_room()
        text = without_key(completion.text, self._key)
        whole = self._token_ids and text == completion.text and not thought
        return replace(completion, text=text, tokens=read_tokens(content) if whole else None)

    def _refused(self, refusal: Refusal, version: int, call: Call) -> TransportError:
        """What an error response means, and what to do about it."""
        reason = scrubbed(str(refusal), self._key)
        if self._token_ids and refusal.status in FORM_STATUSES and any(name in refusal.text for name in ASK_TOKENS):
            self._token_ids = False
            return TransportError("again", reason)
        is_form = refusal.status in FORM_STATUSES and not (refusal.is_about_model or refusal.is_filtered)
        if is_form and (self._form.version != version or self._form.adapt(refusal.text)):
            return TransportError("again", reason)
        failure = failure_of(refusal, answered=self._answered)
        hint = ""
        if failure == "spent":
            hint = f"the account behind {self.config.executor_api_key_env} has no credit left: "
        elif failure == "fatal" and (refusal.status in (404, 405, 410) or refusal.is_about_model):
            hint = "model or path not found; check --executor_model and --executor_base_url: "
        elif failure == "fatal":
            hint = f"refuses the key in {self.config.executor_api_key_env}: "
        if failure == "fatal" and refusal.status in DENIALS and not call.probe and not self._is_denied():
            failure = "busy"
        return TransportError(failure, hint + reason, retry_after=refusal.retry_after)

    def _is_denied(self) -> bool:
        """Whether one more denial proves that all calls are denied: a stray one does not, nor one among others."""
        self._denials += 1
        return self._denials > 1 and self._in_flight == 1


def openai_transports(config: ExecutorConfig, *, proven: bool = False, token_ids: bool = False) -> list[Transport]:
    """Return one transport for each address of the flags, OpenAI's own by default; see `ChatTransport`."""
    form = RequestForm(config.executor_model, config.executor_thinking_tokens)
    urls = config.base_urls or [OPENAI_URL]
    return [ChatTransport(config, url, form, proven=proven, token_ids=token_ids) for url in urls]


def _client(address: Address, key: str | None, config: ExecutorConfig) -> AsyncClient:
    """The SDK's connections, which send with every request the headers that the SDK gives it."""
    from openai import AsyncOpenAI, DefaultAioHttpClient, Omit  # most of a second, and a command may never ask

    headers: dict[str, str] = {}
    if address.authorization is not None:
        headers["Authorization"] = address.authorization
    elif key is not None and "api-version" in address.query:  # Azure's
        headers["api-key"] = key
    trust_env = not address.is_loopback  # no proxy leads to this machine
    client = DefaultAioHttpClient(
        timeout=config.executor_timeout,
        verify=_trusted(trust_env),
        limits=Limits(max_connections=config.executor_max_concurrency + 8, max_keepalive_connections=None),
        trust_env=trust_env,
    )
    sdk = AsyncOpenAI(api_key=key or "none", base_url=address.url, default_headers=headers, http_client=client)
    given = {**(sdk.auth_headers if key else {}), **sdk.default_headers}
    client.headers.update({name: value for name, value in given.items() if not isinstance(value, Omit)})
    return client


@cache
def _trusted(trust_env: bool) -> ssl.SSLContext:
    """The certificates that are trusted. Reading them takes longer than all else of a client."""
    return create_ssl_context(trust_env=trust_env)
