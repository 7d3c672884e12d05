"""Text that others wrote, as a terminal may show it."""

import unicodedata

# Besides control characters: what turns the direction of the text around it.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Return a text with its control characters spelled out, but for line breaks and tabs.

    A reply that holds escape sequences must not clear the screen, set the title, or hide what stands before it.

    Example:

        >>> printable("42\\x1b[2J")
        '42\\\\x1b[2J'
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_unsafe(character) else character for character in text
    )


def _is_unsafe(character: str) -> bool:
    return character not in "\n\t" and (character in _TURNS or unicodedata.category(character) in ("Cc", "Cs"))
