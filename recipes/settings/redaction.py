"""Settings as they may be shown to others: no key, token or password leaves with them."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "<hidden>"
_SECRET_NAME = re.compile(r"(^|_)(token|key|secret|password|credentials?|authorization)$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"\b(sk-|hf_|gh[opsu]_)[\w-]{8,}|(?<=://)[^/@\s]+(?=@)|(?<=\?)[^\s,]*=[^\s,]+")


def is_secret(name: str) -> bool:
    """Whether a setting's value is secret, by its name: `hub_token`, `api_key`."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(value: Any, name: str = "") -> Any:
    """Return a copy of nested settings in which nothing secret is left.

    Args:
        value (`Any`): mappings, lists and plain values.
        name (`str`): the setting's name; one like `hub_token` or `api_key` hides its value.

    Returns:
        `Any`: the same, with `"<hidden>"` for values under such names, for keys of known kinds in any text, and for the
        credentials and the query of a URL.
    """
    if isinstance(value, Mapping):
        return {key: without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, name) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and is_secret(name) else _SECRET_TEXT.sub(HIDDEN, value)
    return value
