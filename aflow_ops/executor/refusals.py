"""Reading error responses: what the provider says, in whatever form it says it, and what follows from it."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from aflow_ops.executor.transport import Failure

MAX_REASON_CHARS = 300
# Where providers put the reason, the most telling first.
_REASONS = (
    "message",
    "Message",
    "msg",
    "error_msg",
    "status_msg",
    "faultstring",
    "detail",
    "details",
    "error",
    "errors",
    "error_description",
    "description",
    "reason",
    "title",
    "fault",
    "base_resp",
)
_CODES = ("code", "type", "status", "param", "loc", "quotaId")
_FILTERED = re.compile(
    r"content.?filter|content.?policy|content management|moderat|flagged|safety|prohibited.?content|"
    r"violat\w*.{0,40}polic|polic.{0,40}violat|blocked by.{0,40}(?:polic|filter|guard)|responsible.?ai|data_inspection|"
    r"inappropriate|guardrail",
    re.IGNORECASE,
)
_SPENT = re.compile(
    r"insufficient[\W_]+(?:[a-z]+[\W_]+){0,2}(?:quota|balance|credit|fund)|billing.?(?:hard.?limit|not.?active)|"
    r"credit balance is too low|out of credits|no credits|requires more credits|(?:key|credit|spend\w*) limit exceeded|"
    r"(?:reached|exceeded) your (?:\w+ ){0,3}usage limit|n['o]t have any credits|arrearage|overdue|"
    r"monthly spending limit|budget.?(?:has.been.)?exceeded|"
    # No money in the account, as it is said in China.
    r"欠费|余额不足",
    re.IGNORECASE,
)
_DAILY = re.compile(r"\b(?:per|a)[ _-]day|(?:Per|By)Day|daily (?:limit|free allocation)|calls ?/ ?month", re.IGNORECASE)
_PLAN = re.compile(r"check your plan and billing", re.IGNORECASE)
_MINUTE = re.compile(r"per.?minute|RESOURCE_EXHAUSTED|retry in", re.IGNORECASE)
_BAD_KEY = re.compile(
    r"(?:invalid|incorrect).{0,10}(?:api.?key|authorization header)|"
    r"api.?key.{0,20}(?:invalid|not valid|not found|expired)",
    re.IGNORECASE,
)
_NO_ACCOUNT = re.compile(
    r"location is not supported|organization.{0,20}restricted|account.{0,20}(?:suspend|disabl)", re.I
)
_BAD_MODEL = re.compile(
    r"model.?not.?(?:found|exist|available|supported)|not a valid model|model .{0,80}does not exist|unknown model|"
    r"no models? loaded|model.{0,80}decommissioned|does not support chat|not a chat model|"
    r"does not work with the specified model|requested model .{0,80}not supported",
    re.IGNORECASE,
)
# What a model wrote could not be read as an answer: as much the chance of one reply as a tool call is.
_MISWRITTEN = re.compile(r"tool_use_failed|output_parse_failed|json_validate_failed")
# The model's process is gone, though the status blames the request.
_CRASHED = re.compile(r"model has crashed|model (?:was |is )?unloaded|failed to load model", re.IGNORECASE)
# The prompt alone is too long, though the status blames the server.
_OVERLONG = re.compile(
    r"exceed_context_size|exceeds? the (?:available|model'?s?) context|context (?:size|length|window) (?:has been )?"
    r"exceeded|greater than the context length",
    re.IGNORECASE,
)
# google.rpc.RetryInfo among an error's details, also where a gateway quotes the body that it got.
_RETRY_DELAY = re.compile(r"""\bretryDelay\\{0,3}["']\s*:\s*\\{0,3}["'](\d+(?:\.\d+)?)s\b""")
# 424: what stands behind a gateway failed. 498 and 499: no room at a provider's cheapest tier; the client has gone, as
# a proxy sees it.
_BUSY = (408, 409, 424, 425, 429, 498, 499)


@dataclass(frozen=True)
class Refusal:
    """An error response.

    Args:
        status (`int`): HTTP status.
        reason (`str`): what the provider says, one line.
        codes (`str`): its codes, types and parameters.
        retry_after (`float`, *optional*): seconds that it asks to wait.
    """

    status: int
    reason: str
    codes: str = ""
    retry_after: float | None = None

    @property
    def is_about_model(self) -> bool:
        """Whether it says that there is no such model."""
        return _BAD_MODEL.search(self.text) is not None

    @property
    def is_spent(self) -> bool:
        """Whether it says that the account has nothing left to pay with."""
        return self.status == 402 or _is_spent(self.text, self.status)

    @property
    def is_filtered(self) -> bool:
        """Whether it is a filter's or a moderation's, about this request alone."""
        return self.status in (400, 403, 422, 451) and _FILTERED.search(self.text) is not None

    @property
    def text(self) -> str:
        """All words of it."""
        return f"{self.reason} {self.codes}"

    def __str__(self) -> str:
        return f"error {self.status}: {self.reason[:MAX_REASON_CHARS]}"


def read_refusal(status: int, content: bytes, headers: Mapping[str, str]) -> Refusal:
    """Read an error response: JSON of any shape, HTML, or plain text; of status 200, its code counts."""
    text = content[:20_000].decode("utf-8-sig", "replace").strip()
    codes: list[str] = []
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        reason = _plain(text)
    else:
        codes = list(dict.fromkeys(_codes(body)))
        reason = "; ".join(dict.fromkeys(_reasons(body))) or _plain(text)
        status = _status_in(body) or 502 if status == 200 else status
    shown = [
        code for code in codes if not code.isdigit() and code.lower() not in ("error", "none") and code not in reason
    ]
    told = f"{reason} ({', '.join(shown[:3])})" if shown else reason
    return Refusal(status, told or "no reason given", " ".join(codes), _asked_wait(headers, text))


def failure_of(refusal: Refusal, *, answered: bool) -> Failure:
    """Tell what becomes of the call.

    Args:
        refusal (`Refusal`): the error response.
        answered (`bool`): whether the endpoint has answered others: its address, key and model are right then, and
            what it says about them now is about this call.
    """
    status, text = refusal.status, refusal.text
    if refusal.is_spent:
        return "spent"
    if refusal.is_filtered:
        return "call"
    if status == 400 and _MISWRITTEN.search(text):
        return "busy"
    if status == 400 and _CRASHED.search(text):
        return "outage"
    if status in (401, 407) or (status == 400 and _BAD_KEY.search(text)):
        return "fatal"
    if status == 400 and not answered and (refusal.is_about_model or _NO_ACCOUNT.search(text)):
        return "fatal"
    if status in (403, 404, 405, 410):
        return "busy" if answered else "fatal"
    if status in _BUSY:
        return "busy"
    return "outage" if status >= 500 and not _OVERLONG.search(text) else "call"


def _is_spent(text: str, status: int) -> bool:
    # 502 is also what a reply of status 200 without a code stands for.
    if status not in (400, 401, 403, 412, 429, 502):
        return False
    if _SPENT.search(text):
        return True
    return status in (401, 403, 429) and bool(_DAILY.search(text) or (_PLAN.search(text) and not _MINUTE.search(text)))


def _reasons(body: Any, depth: int = 0) -> Iterator[str]:
    """All that explains, outside in."""
    if depth > 6:
        return
    if isinstance(body, str) and body.strip():
        yield _plain(body)
    elif isinstance(body, list):
        for item in body[:5]:
            yield from _reasons(item, depth + 1)
    elif isinstance(body, dict):
        place = ".".join(str(part) for part in body["loc"]) if isinstance(body.get("loc"), list) else ""
        for name in _REASONS:
            for reason in _reasons(body.get(name), depth + 1):
                yield f"{place}: {reason}" if place else reason
        metadata = body.get("metadata")
        if isinstance(metadata, dict):  # OpenRouter's: what the provider behind it said
            yield from _reasons([metadata.get("raw"), metadata.get("reasons")], depth + 1)


def _codes(body: Any, depth: int = 0) -> Iterator[str]:
    if depth > 6:
        return
    if isinstance(body, list):
        for item in body[:5]:
            yield from _codes(item, depth + 1)
    elif isinstance(body, dict):
        for name, value in body.items():
            if name in _CODES and isinstance(value, (str, int)) and not isinstance(value, bool):
                yield str(value)
            elif isinstance(value, (dict, list)):
                yield from _codes(value, depth + 1)


def _status_in(body: Any) -> int | None:
    """The status that an error in a reply of status 200 names."""
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return int(str(code)) if str(code).isdigit() and 400 <= int(str(code)) < 600 else None


def _plain(text: str) -> str:
    """A text on one line, without tags: a page's title says what its styles do not."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    stripped = title.group(1) if title else re.sub(r"<[^>]{1,500}>", " ", text)
    return " ".join(stripped.split())[: 4 * MAX_REASON_CHARS]


def _asked_wait(headers: Mapping[str, str], text: str) -> float | None:
    """The wait that is asked for, in seconds.

    `retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), else Google's `retryDelay` in the
    body: "17s", "3.5s".
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value.strip().removesuffix("s")) / unit
        except ValueError:
            try:
                seconds = max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds >= 0 and math.isfinite(seconds):
            return seconds
    delays = [seconds for seconds in map(float, _RETRY_DELAY.findall(text)) if math.isfinite(seconds)]
    return max(delays, default=None)
