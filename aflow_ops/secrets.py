"""What counts as a secret, and how text and settings are shown without one. Everything that hides or refuses keys asks
here.

Three signs, each enough: a setting's or variable's *name* (`hub_token`, `HF_TOKEN`), a *text* of a kind that services
hand out (`sk-...`, `hf_...`, `Bearer ...`, a private key's head), and the *value* of a variable of this process whose
name is a secret's. A key's body has a digit, a mask or twenty letters in one piece, which `key-value-pairs` and
`sk-learn-contrib` have not.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "<hidden>"
# A shorter value of a variable is found by its name only: replacing "a" everywhere would leave no readable text.
MIN_VALUE_CHARS = 8

_NAME = re.compile(
    r"(?:^|[_-])(?:token|key|secret|password|passwd|credentials?|authorization)$"
    r"|(?:KEY|TOKEN|SECRET|PASSWORD)$|[a-z](?:Key|Token|Secret|Password)$"
    r"|^(?i:apikey)$"
)
_BODY = r"(?=[\w.*-]*?(?:(?=[A-Za-z*]*[\d*])[A-Za-z0-9*]{6,}|[A-Za-z0-9]{20,}))[\w.*-]{6,}"
_START = r"(?<![A-Za-z0-9])"
# Kind -> pattern. OpenAI's, Stripe's and their imitators'; Hugging Face's; GitHub's; AWS's; HTTP's; OpenSSL's.
_KEYS = {
    "API key": rf"{_START}(?i:sk|pk|rk|key)[-_]{_BODY}",
    "Hugging Face token": rf"{_START}hf_{_BODY}",
    "GitHub token": rf"{_START}gh[opsru]_{_BODY}",
    "AWS key": rf"{_START}AKIA[0-9A-Z]{{16}}",
    "authorization header": r"(?i:\bauthorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic))\s+[^\s\"']+",
    "bearer token": r"(?i:\bbearer)\s+(?=[A-Za-z-]*[\d._~+/=*]|[A-Za-z-]{20})[\w.~+/=*-]{6,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_KEY = re.compile("|".join(f"(?:{pattern})" for pattern in _KEYS.values()))
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_QUERY = re.compile(r"(://[^\s?,]*\?)[^\s,]*=[^\s,]+")


def is_secret_name(name: str) -> bool:
    """Whether a setting, a flag or a variable of this name holds a secret: `hub_token`, `--api-key`, `HF_TOKEN`."""
    return _NAME.search(name) is not None


def holds_secret(text: str) -> bool:
    """Whether a text holds a key of a known kind or a secret of this process."""
    return _KEY.search(text) is not None or any(value in text for value in own_secrets())


def own_secrets() -> Iterator[str]:
    """Yield the values of this process's variables that are secret by their names, the longest first."""
    values = {value for name, value in os.environ.items() if is_secret_name(name) and len(value) >= MIN_VALUE_CHARS}
    yield from sorted(values, key=len, reverse=True)


def hide_secrets(text: str) -> str:
    """Return a text with `"<hidden>"` for keys, for this process's secrets, and for a URL's credentials and query.

    Example:

        >>> hide_secrets("401 from https://me:pw@host/v1?key=7: Incorrect API key provided: sk-proj*****1234")
        '401 from https://<hidden>@host/v1?<hidden> Incorrect API key provided: <hidden>'
    """
    for value in own_secrets():
        text = text.replace(value, HIDDEN)
    text = _QUERY.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(HIDDEN, text))
    return _KEY.sub(HIDDEN, text)


def without_secrets(value: Any, name: str = "") -> Any:
    """Return a copy of nested settings in which nothing secret is left.

    Args:
        value (`Any`): mappings, lists and plain values.
        name (`str`): the setting's name; one like `hub_token` or `api_key` hides its value.

    Returns:
        `Any`: the same, with `"<hidden>"` for values under such names, and in any text for what `hide_secrets` hides.
    """
    if isinstance(value, Mapping):
        return {key: without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, name) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and is_secret_name(name) else hide_secrets(value)
    return value
