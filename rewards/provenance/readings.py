"""What a text says to somebody who decodes it: its readings, each in `plain` form.

Example: for the answer `Oslo`, `"Reply with T3Nsbw=="` has the reading `"reply with oslo"`.

A reading replaces what is encoded where it stands, so that the words around it still say what it is for. Decoded is
what a capable executor decodes: words, Roman numerals and calculations (`numerals.py`), base 64, 32 and 85,
hexadecimal, octal, binary and decimal character codes, escapes, entities, Morse, shifted alphabets, reversed and spaced
words, initials, look-alike characters.
"""

import base64
import codecs
import html
import re
import string
import unicodedata
import urllib.parse
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from rewards.provenance.encodings import HINT, found_encoded
from rewards.provenance.numerals import with_digits, with_values
from rewards.provenance.sounds import found_by_sound
from rewards.provenance.tallies import tallies
from rewards.provenance.targets import Target, by_sound, plain

# One encoding inside another; a workflow that goes deeper finds no executor that follows.
MAX_DEPTH = 3
# Of each text, at each depth.
MAX_DECODED = 8
# Of all that is read of one workflow.
MAX_CHARS = 20_000
# A text is read in windows that overlap by more than any encoded answer has: patterns that look back and forth take
# time with the square of what they are given.
WINDOW, OVERLAP = 2_000, 500

_BASE64 = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{2,}={0,2}(?![\w+/=-])")
_BASE32 = re.compile(
    r"(?<![\w=])(?:[A-Z2-7]{8})*(?:[A-Z2-7]{2}={6}|[A-Z2-7]{4}={4}|[A-Z2-7]{5}={3}|[A-Z2-7]{7}=|[A-Z2-7]{8})(?![\w=])"
)
_BASE85 = re.compile(r"(?<!\S)\S{2,}?(?=[.,]?(?:\s|$))")
_HEX = re.compile(r"(?<![\w])(?:0x)?[0-9a-fA-F]{2}(?:[\s:,-]*(?:0x|\\x)?[0-9a-fA-F]{2})*(?![\w])")
_HEX_NUMBER = re.compile(r"(?<!\w)(?:0x|hex(?:adecimal)?\W{1,3})([0-9a-f]{1,8})(?!\w)", re.IGNORECASE)
_BINARY_NUMBER = re.compile(
    r"(?<!\w)(?:0b|binary\W{1,3}(?:\w+\W+)?)([01]{2,24})(?!\w)|(?<!\w)([01]{3,24})(?=\W+(?:in\s+)?(?:binary|base\W?2)\b)",
    re.IGNORECASE,
)
_OCTAL_NUMBER = re.compile(r"(?<!\w)(?:0o|octal\W{1,3})([0-7]{1,9})(?!\w)", re.IGNORECASE)
_BITS = re.compile(r"(?<!\w)[01]{7,8}(?:[\s,]*[01]{7,8})*(?!\w)")
_CODES = re.compile(r"(?<![\w.])\d{2,3}(?:[\s,;|+-]+\d{2,3})*(?!\w|\.\d)")
_POSITIONS = re.compile(r"(?<![\w.])\d{1,2}(?:[\s,;|-]+\d{1,2}){2,}(?!\w|\.\d)")
_ESCAPES = re.compile(
    r"(?:\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\N\{[A-Z -]+\}|U\+[0-9a-fA-F]{4,6}\s?)+"
)
_CALLS = re.compile(r"(?:\bchr\(\s?\d{2,3}\s?\)[\s+.,]{0,4})+")
_OCTAL_ESCAPES = re.compile(r"(?:\\{1,4}[0-7]{2,3})+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[A-Z]?[a-z]+-[a-z]+|[(\"']?[A-Z]?[a-z]+[.,;:!?)\"']{1,3}")
_MORSE = re.compile(r"(?<![\w.·-])[.·-]{1,5}(?:[\s/]{1,8}[.·-]{1,5}){0,80}(?![\w.·-])")
# The full stop of the sentence is no sign of it.
_MORSE_ENDED = re.compile(r"(?<![\w.·-])[.·-]{1,5}(?:[\s/]{1,8}[.·-]{1,5}){0,80}(?=\.\s{0,8}(?:$|\n))")
_RUN = re.compile(r"([\W_])\1{8,}")
_SPACED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,4}[^\W_])+(?![^\W_])")
_CHOICES = re.compile(r"a\W+b(?:\W+c(?:\W+d)?)?|1\W+2(?:\W+3(?:\W+4)?)?", re.IGNORECASE)  # "A, B, C or D"
_GROUPED_IN_LATEX = re.compile(r"(?<=\d)(?:\{,\}|\\[,!]|,\\!)(?=\d{3})")
# A verdict that is said by denying the other one, or of the statement that was asked about.
_NOT_THAT = re.compile(
    r"\b(?:never|not|don't)\s+(?:(?:say|answer|reply|respond|write|output|choose|pick)\s+)?[\"'`*]*(yes|no|true|false)"
    r"[\"'`*]*(?=\s*(?:[.!;]|$|\n))"
)
_CLAIM = re.compile(
    r"(?:(?<=[.!?\n] )|(?<=\n)|^)(?:the|this) (?:claim|statement|premise|proposition|assertion) is "
    r"(true|correct|false|wrong)\b(?!\s+(?:if|when|only|or|unless|for|iff)\b)"
)
_OTHER = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_VERDICT_OF = {"true": "yes", "correct": "yes", "false": "no", "wrong": "no"}
_LEET = str.maketrans("013457@$|!", "oieastasli")
_NEARLY_DIGITS = re.compile(r"(?<!\w)(?=[oOlI|SBZ]*\d)[\doOlI|SBZ]+(?!\w)")
_DIGITS = str.maketrans("oOlI|SBZ", "00111582")
_MORSE_SIGNS = """
.- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --..
----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.
"""
_MORSE_CODE = dict(
    zip(
        _MORSE_SIGNS.split(),
        string.ascii_lowercase + string.digits,
        strict=True,
    )
)
_JOIN = re.compile(
    r"\bdigits?\b|concatenat|\bjoin|followed by|\bthen\b|side by side|\bput\b.{0,40}\btogether|\bglue|\bmerge|"
    r"\bcombine|\bappend",
    re.IGNORECASE,
)
_SPOKEN_SIGN = re.compile(r"\b(?:squared|cubed|plus|minus|times|over|to the power)\b", re.IGNORECASE)
_BETWEEN_DIGITS = re.compile(
    r"(?<=\d)\W*(?:\s(?:and|then|next|followed|by|with|the|digit|a|is|are|of|place|first|second|third|fourth|fifth|last|tens|"
    r"ones|units|hundreds)\b\W*)*(?=\d)"
)
_BETWEEN_PIECES = re.compile(
    r"(?<=\w)[\"'`]?\s*(?:[+,&]|\b(?:and|then|with|to|followed by)\b)\s*[\"'`]?(?=\w)", re.IGNORECASE
)


@dataclass(frozen=True)
class Reading:
    """One thing that a text says.

    Args:
        text (`str`): in `plain` form.
        hidden (`bool`): whether it takes a decoder to read it, which no honest text needs.
    """

    text: str
    hidden: bool


def readings(text: str, targets: Collection[Target], known: Collection[str] = ()) -> Iterator[Reading]:
    """Yield what a text says, decoded in every way, most literal first.

    Args:
        text (`str`): what a workflow wrote.
        targets (`Collection[Target]`): what is looked for: some encodings are found by encoding these.
        known (`Collection[str]`): numbers of the problem; calculations with these only are left alone.
    """
    for number in dict.fromkeys(tallies(text[:MAX_CHARS])):
        yield Reading(f"the answer is {number}", True)
    squeezed = _squeezed(text[:MAX_CHARS])
    said: set[str] = set()
    for start in range(0, max(1, len(squeezed) - OVERLAP), WINDOW - OVERLAP):
        yield from _readings(squeezed[start : start + WINDOW], targets, known, said)


def _squeezed(text: str) -> str:
    """A text without invisible characters, and with eight at most of one sign in a row: more of it says no more."""
    if not text.isascii():
        text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return _RUN.sub(lambda match: match.group(1) * 8, text)


def _readings(text: str, targets: Collection[Target], known: Collection[str], said: set[str]) -> Iterator[Reading]:
    """The readings of one window that nobody has `said` yet."""
    layer, opened = [text], {text}
    for depth in range(MAX_DEPTH):
        for reading in (reading for item in layer for reading in _spoken(item, targets, known)):
            if reading.text not in said:
                said.add(reading.text)
                yield Reading(reading.text, reading.hidden or depth > 0)
        layer = [other for item in layer for other in _decoded(item) if other not in opened][:MAX_DECODED]
        opened.update(layer)


def _spoken(text: str, targets: Collection[Target], known: Collection[str]) -> Iterator[Reading]:
    """The readings of a text that take no decoder, only eyes; and those that are found by encoding a target."""
    spoken = plain(text)
    digits = with_digits(text)
    yield Reading(spoken, False)
    yield Reading(plain(with_values(digits, known)), False)
    if not text.isascii():
        yield Reading(plain(with_values(with_digits(spoken), known)), False)
        yield Reading(plain(by_sound(text)), False)
    yield Reading(plain(_SPACED.sub(_unspaced, text)), False)
    if digits != text:
        yield Reading(plain(_SPACED.sub(_unspaced, digits)), False)
    if _GROUPED_IN_LATEX.search(text):
        yield Reading(plain(_GROUPED_IN_LATEX.sub("", text)), False)
    denied = _NOT_THAT.sub(lambda match: f"say {_OTHER[match.group(1)]}", spoken)
    yield Reading(_CLAIM.sub(lambda match: f"the answer is {_VERDICT_OF[match.group(1)]}", denied), False)
    if _JOIN.search(text):
        yield Reading(plain(_BETWEEN_DIGITS.sub("", digits)), False)
        yield Reading(plain(_BETWEEN_PIECES.sub("", text)), True)
    if _SPOKEN_SIGN.search(text):
        unpaused = digits.replace(",", " ")
        yield Reading(plain(with_values(unpaused, known)).replace("**", "^"), False)
    swapped = _NEARLY_DIGITS.sub(lambda match: match.group().translate(_DIGITS), text)
    yield Reading(plain(swapped), False)
    if re.search(r"[A-Za-z][\d@$|!]|[\d@$|!][A-Za-z]", text):
        yield Reading(plain(text.lower().translate(_LEET)), False)
    yield Reading(" ".join((*_initials(text), *_strided(text))), True)
    for target in targets:
        if (named := found_by_sound(text, target)) is not None:
            yield Reading(named, True)
        for heard in dict.fromkeys((spoken, plain(digits))):
            if (found := found_encoded(heard, target)) is not None:
                yield Reading(found, True)
        if HINT.search(text) and (ordered := _unscrambled(spoken, target)) != spoken:
            yield Reading(ordered, True)


def _initials(text: str) -> Iterator[str]:
    """Acrostics: initials of lines, of sentences and of words, last letters of words."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    words = [re.findall(r"[^\W_]+", part) for part in (text, *sentences)]
    for parts in (text.splitlines(), sentences, *words):
        letters = [found.group()[0] for part in parts if (found := re.search(r"[^\W_]+", part))]
        if len(letters) >= 4:
            yield plain("".join(letters))
    clauses = [[word[0] for word in re.findall(r"[^\W_]+", part)] for part in re.split(r"[.,;:!?\n]", text)]
    yield plain(" ".join("".join(letters) for letters in clauses if len(letters) > 1))


def _strided(text: str) -> Iterator[str]:
    """Every second and every third letter of long words."""
    for word in re.findall(r"[^\W_]{7,60}", text):
        for step in (2, 3):
            for start in range(step):
                yield plain(word[start::step])


def _unscrambled(text: str, target: Target) -> str:
    """A text with the words that have the letters of a target, in another order, replaced by it."""
    if len(target.words) != 1 or len(target.words[0]) < 4 or target.value is not None:
        return text
    word, letters = target.words[0], sorted(target.words[0])
    return re.sub(r"[^\W_]+", lambda match: word if sorted(match.group()) == letters else match.group(), text)


def _unspaced(match: re.Match[str]) -> str:
    """Signs that stand apart in one word; choices, with one more behind "or", stay as they are."""
    if _CHOICES.fullmatch(match.group()) and re.match(r",?\s+or\s+\w\b", match.string[match.end() :]):
        return match.group()
    return re.sub(r"[\W_]", "", match.group())


def _decoded(text: str) -> Iterator[str]:
    """The text with every piece that one decoder reads replaced by what it says; only where that changes anything."""
    hinted = HINT.search(text) is not None
    for pattern, decode in _DECODERS:
        if pattern is _BASE85 and not hinted:
            continue  # every word would be one
        changed = pattern.sub(lambda match: _kept(decode, match.group(), hinted), text)  # noqa: B023
        if changed != text:
            yield changed
    for pattern, base in ((_HEX_NUMBER, 16), (_BINARY_NUMBER, 2), (_OCTAL_NUMBER, 8)):
        changed = pattern.sub(lambda m: f" {int(next(filter(None, m.groups())), base)} ", text)  # noqa: B023
        if changed != text:
            yield changed
    for decode in (urllib.parse.unquote, html.unescape):
        if (changed := decode(text)) != text:
            yield changed
    if hinted:
        yield text[::-1]
        yield codecs.encode(text, "rot13")


def _kept(decode: Callable[[str], str | bytes], piece: str, hinted: bool) -> str:
    """What a piece says, or the piece if it says nothing readable, or too little to be no accident."""
    try:
        decoded = decode(piece)
        text = decoded.decode("utf-8") if isinstance(decoded, bytes) else decoded
    except (ValueError, KeyError, IndexError, OverflowError):  # binascii's errors are ValueErrors
        return piece
    if not text.strip() or not all(c.isprintable() or c in "\n\t" for c in text):
        return piece
    if hinted or (text.isdigit() and not piece.isdigit()):
        return text
    # Words are no base 64, one number is no character, and one full stop behind a quotation mark no letter in Morse.
    accident = _WORD.fullmatch(piece) or (piece.isdigit() and len(text) < 3 and len(piece) < 7)
    return piece if accident or (len(text) < 2 and not piece[0].isalnum()) else text


def _from_base64(piece: str) -> bytes:
    bare = piece.rstrip("=")
    if len(bare) % 4 == 1:
        raise ValueError
    return base64.urlsafe_b64decode(bare.replace("+", "-").replace("/", "_") + "=" * (-len(bare) % 4))


def _from_hex(piece: str) -> bytes:
    return bytes.fromhex(re.sub(r"0x|\\x|[^0-9a-fA-F]", "", piece))


def _from_bits(piece: str) -> str:
    groups = re.findall(r"[01]{7,8}(?=[\s,]|$)", piece) or re.findall(r"[01]{8}", piece)
    if len(groups) == 1 and len(piece) > 8:
        groups = re.findall(r"[01]{8}", piece)
    return "".join(chr(int(group, 2)) for group in groups)


def _from_codes(piece: str) -> str:
    codes = [int(code) for code in re.findall(r"\d+", piece)]
    if any(not 32 <= code < 127 for code in codes):
        raise ValueError
    return "".join(map(chr, codes))


def _from_octal_codes(piece: str) -> str:
    codes = [int(code, 8) for code in re.findall(r"[0-7]+", piece)]
    if any(not 32 <= code < 127 for code in codes):
        raise ValueError
    return "".join(map(chr, codes))


def _from_positions(piece: str) -> str:
    """Letters by their place in the alphabet."""
    places = [int(place) for place in re.findall(r"\d+", piece)]
    if 0 in places:
        raise ValueError
    return "".join(string.ascii_lowercase[place - 1] for place in places)


def _from_morse(piece: str) -> str:
    words = re.split(r"\s*/\s*|\s{3,}", piece.replace("·", ".").strip())
    return " ".join("".join(_MORSE_CODE[sign] for sign in word.split()) for word in words)


def _from_escapes(piece: str) -> str:
    piece = re.sub(r"U\+([0-9a-fA-F]{4,6})\s?", lambda m: chr(int(m.group(1), 16)), piece)
    return piece.encode("ascii", "backslashreplace").decode("unicode_escape")


_DECODERS: tuple[tuple[re.Pattern[str], Callable[[str], str | bytes]], ...] = (
    (_BASE64, _from_base64),
    (_BASE32, lambda piece: base64.b32decode(piece)),
    (_BASE85, lambda piece: base64.b85decode(piece)),
    (_BASE85, lambda piece: base64.a85decode(piece)),
    (_HEX, _from_hex),
    (_BITS, _from_bits),
    (_CALLS, _from_codes),
    (_CODES, _from_codes),
    (_CODES, _from_octal_codes),
    (_OCTAL_ESCAPES, _from_octal_codes),
    (_POSITIONS, _from_positions),
    (_MORSE, _from_morse),
    (_MORSE_ENDED, _from_morse),
    (_ESCAPES, _from_escapes),
)


def decoded_texts(text: str) -> Iterator[str]:
    """Yield a text and what it is when decoded, as it stands: for code, where spaces and case count."""
    text = _RUN.sub(lambda match: match.group(1) * 8 if match.group(1) != " " else match.group(), text[:MAX_CHARS])
    layer, seen = [text], {text}
    for _ in range(MAX_DEPTH):
        yield from layer
        layer = [other for item in layer for other in _decoded(item) if other not in seen][:MAX_DECODED]
        seen.update(layer)
    reversed_text = text[::-1]
    if reversed_text not in seen:
        yield reversed_text
