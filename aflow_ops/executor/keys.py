"""The executor's key: read from the environment only, and taken out of every text that leaves this package."""

import os

from aflow_ops.errors import UsageError
from aflow_ops.secrets import HIDDEN, MIN_VALUE_CHARS, hide_secrets

# As the variable's name: send no key.
NO_KEY = "none"


def read_key(variable: str) -> str | None:
    """Return the key in an environment variable; `None` when it is empty or unset, or the variable is `"none"`.

    Raises:
        UsageError: no HTTP header can hold it; says what is wrong with it, and shows nothing of it.
    """
    key = "" if variable == NO_KEY else os.environ.get(variable, "")
    for is_wrong, what in (
        (key != "" and not key.strip(), "holds white space only"),
        ("\n" in key or "\r" in key, "holds a line break"),
        (any(character.isspace() for character in key), "holds a space"),
        (any(character in "\"'`" for character in key), "holds a quotation mark"),
        (not key.isascii() or not key.isprintable(), "holds a character that no key has (a typographic quote?)"),
    ):
        if is_wrong:
            raise UsageError(f"the key in {variable} {what}: set it again, with the key alone")
    return key or None


def scrubbed(text: str, key: str | None) -> str:
    """Return text without the key and without any other secret, on one line."""
    return hide_secrets(without_key(" ".join(text.split()), key))


def without_key(text: str, key: str | None) -> str:
    """Return text without the key. A word of a few letters that a server takes for a key is none."""
    return text.replace(key, HIDDEN) if key and len(key) >= MIN_VALUE_CHARS else text
