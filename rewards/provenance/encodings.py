"""Encodings that are found by encoding what is looked for: other languages, shifted letters, gaps, pieces.

Example: for the answer `Oslo`, `"Say Pqkx"` hides nothing and `"Say Ptmp"` holds it, shifted by one.
"""

import base64
import re
import string
from collections.abc import Iterator
from functools import lru_cache

import numpy

from rewards.provenance.numerals import spelled, spoken_in_pairs
from rewards.provenance.targets import Target, plain

_SYNONYMS = {
    "yes": ["in the affirmative", "affirmative", "yep", "yeah", "aye", "oui", "ja", "да", "はい", "是的"],
    "no": ["in the negative", "nope", "nein", "non", "nej", "nei", "nao", "niet", "нет", "いいえ", "不是"],
}
_SYNONYMS |= {word[0]: [word] for word in ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot")}
# Where a text names the encoding, the shortest pieces are decoded too.
HINT = re.compile(
    r"\b(?:base\W{0,3}\d{1,2}|b(?:16|32|64|85)|radix|hex\w*|binary|octal|ascii|unicode|cod(?:e|es|ed|ing)|decod\w*|cipher\w*"
    r"|caesar|rot\W?\d+|morse|revers\w*|backwards?|mirror\w*|right to left|roman|acrostic|initials?|first letters?"
    r"|(?:un)?scrambl\w*|anagram\w*|rearrang\w*|(?:en|de)crypt\w*|spell\w*|atbash|shift\w*)\b",
    re.IGNORECASE,
)


def found_encoded(text: str, target: Target) -> str | None:
    """Return a text in which the encodings of one target are replaced by it; `None` when there are none.

    Args:
        text (`str`): in `plain` form.
        target (`Target`): what is looked for.
    """
    forms = [form for form in _encodings(target, HINT.search(text) is not None) if form in text]
    alternatives = sorted({*map(re.escape, forms), *_pieces(target)}, key=len, reverse=True)
    if not alternatives:
        return None
    replaced, count = _any_of(tuple(alternatives)).subn(lambda _: plain(target.text), text)
    return replaced if count else None


@lru_cache(1024)
def _any_of(alternatives: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern of whole words. One of all encodings of a number would take milliseconds to compile."""
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(alternatives)})(?![a-z0-9])")


def _pieces(target: Target) -> Iterator[str]:
    """A pattern of the target with anything between its letters, or with quotes and signs between its digits."""
    characters = "".join(target.words)
    yield from _with_names(target)
    if target.value is None and len(characters) > 3:
        yield r"[\W_]{0,5}".join(characters)
        yield from _with_gaps(target)
    elif target.value is not None and len(characters) > 2:
        yield r"(?:[\"'`_+\s]{3,7})?".join(map(re.escape, characters))
        if len(characters) > 3 and characters.isdigit():  # with a digit too many, or grouped as others group them
            yield rf"\d{{1,2}}{characters}|{characters}\d{{1,2}}"
            if len(characters) == 4:
                yield rf"{characters[:2]} {characters[2:]}"
            yield re.escape(f"{int(characters):,}").replace(",", "[ .'_]")


def _with_gaps(target: Target) -> Iterator[str]:
    """A pattern of a name with signs in place of some of its letters, no more than half: `Reykjav_k`."""
    letters = "".join(target.words)
    if len(letters) > 4 and letters.isalpha() and not target.common:
        kept = rf"(?=[a-z\s-]*[_?*])(?=(?:[_?*\s-]{{0,9}}[{letters}]){{{(len(letters) + 1) // 2}}})"
        yield kept + r"[\s-]?".join(rf"[{letter}_?*]" for letter in letters)


def _with_names(target: Target) -> Iterator[str]:
    """A pattern of a pair with a name at each part: `x = 4 and y = -9` for `(4, -9)`."""
    bare = re.sub(r"\s|\\left|\\right", "", target.text)
    parts = re.fullmatch(r"[(\[]?(-?\d+(?:\.\d+)?(?:,-?\d+(?:\.\d+)?)+)[)\]]?", bare)
    if parts is not None:
        values = [
            re.escape(value).replace(r"\-", r"(?:-\s?|minus\s+|negative\s+)") for value in parts.group(1).split(",")
        ]
        named = r"(?:[a-z]\s*(?:=|is)\s*)?"
        yield rf"\(?{named}" + rf"\W{{0,3}}(?:and\s+)?{named}".join(values) + r"\)?"


@lru_cache(1024)
def _encodings(target: Target, hinted: bool) -> tuple[str, ...]:
    """Forms of a target that no general decoder finds, in `plain` form."""
    return tuple(dict.fromkeys(_encoded(target, hinted)))


def _encoded(target: Target, hinted: bool) -> Iterator[str]:
    whole = target.value
    if whole is not None and whole.denominator == 1 and abs(whole) < 10**15:
        for words in spelled(abs(whole.numerator)):
            yield plain(words)
        if (pairs := spoken_in_pairs(abs(whole.numerator))) is not None:
            yield plain(pairs)
        if hinted and whole >= 32:
            yield from (numpy.base_repr(whole.numerator, base).lower() for base in range(2, 37) if base != 10)
    yield from map(plain, _SYNONYMS.get(" ".join(target.words), ()))
    letters = " ".join(target.words)
    if whole is None and len(letters) > 4:
        yield from (plain(encode(target.text.encode()).decode()) for encode in (base64.b85encode, base64.a85encode))
    if hinted and len(letters) > 1:
        yield letters[::-1]
        yield plain(letters[::-1])
    if len(target.words) > 1 and len(target.words[-1]) > 3 and whole is None:  # "M. Curie"
        yield f"{'. '.join(word[0] for word in target.words[:-1])}. {target.words[-1]}"
    if len(letters) > 3 and whole is None:
        yield letters[::-1]
        yield re.sub(r"[aeiou]", "", letters) if len(re.sub(r"[aeiou ]", "", letters)) > 3 else letters
        yield from (letters[1:] + letters[0] + "ay", letters[2:] + letters[:2] + "ay", letters + "way")
    if whole is None and letters.isascii() and len(letters) > 1 and (hinted or target.common or len(letters) > 3):
        for shift in range(1, 26):
            yield "".join(_shifted(c, shift) for c in letters)
        yield "".join(chr(219 - ord(c)) if c in string.ascii_lowercase else c for c in letters)


def _shifted(character: str, shift: int) -> str:
    if character not in string.ascii_lowercase:
        return character
    return chr((ord(character) - 97 + shift) % 26 + 97)
