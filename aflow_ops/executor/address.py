"""Addresses of endpoints: what is sent where, and what of it may be shown."""

import ipaddress
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

OPENAI_URL = "https://api.openai.com/v1"
_COMPLETIONS = "/chat/completions"


@dataclass(frozen=True)
class Address:
    """Where an endpoint is.

    Args:
        url (`str`): base URL, without credentials and query.
        query (`dict[str, str]`): parameters of every request, such as Azure's `api-version`.
        authorization (`str`, *optional*): header for the credentials that the URL had.
    """

    url: str
    query: dict[str, str] = field(default_factory=dict)
    authorization: str | None = field(default=None, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, which no proxy can reach."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def __str__(self) -> str:
        return "api.openai.com" if self.url == OPENAI_URL else self.url


def parse_address(text: str) -> Address:
    """Read a base URL as people write it.

    Raises:
        ValueError: it is none; says what is wrong and shows no credentials.
    """
    shown = text.rpartition("@")[2]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # such as a port that is no number
        raise ValueError(f"executor_base_url={shown!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"executor_base_url={shown!r} must start with http:// or https://")
    if not host or any(character.isspace() for character in text):
        raise ValueError(f"executor_base_url={shown!r} is no URL: e.g. http://localhost:8000/v1")
    name = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix(_COMPLETIONS)
    url = urlunsplit((parts.scheme, name if port is None else f"{name}:{port}", path, "", ""))
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(credentials.encode()).decode()}"
    return Address(url, dict(parse_qsl(parts.query, keep_blank_values=True)), authorization)
