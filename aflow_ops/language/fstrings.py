"""f-strings as Python reads them from 3.12 on (PEP 701), written for every Python.

`f"{r["x"]}"` is plain Python from 3.12 on and a syntax error before. A reward must not depend on the interpreter that
reads the workflow, so f-strings that an older Python rejects (their own quotes, a backslash, a comment or a line's end
inside an expression) are written as `"{}".format(r["x"])` on every Python; all others stay as they are.
"""

import re
from dataclasses import dataclass, field

_PREFIX = re.compile(r"(?<![\w])([bBuUfF]?[rR]?|[rR]?[bBfF]?)('''|\"\"\"|'|\")")
_SPACE = re.compile(r"\s*")
_OPENING, _CLOSING = "([{", ")]}"


@dataclass
class _FString:
    """One f-string while it is read.

    Args:
        template (`list[str]`): its text with `{}` for the expressions.
        values (`list[str]`): the expressions.
        modern (`bool`): whether older Pythons reject it.
    """

    template: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    modern: bool = False


class _UnfinishedError(Exception):
    """The text ends inside a string: it is no Python anyway."""


def plain_fstrings(source: str) -> str:
    """Return the source with f-strings that every Python from 3.11 on reads; unchanged if it has no others."""
    if "{" not in source or not re.search(r"[fF][rR]?['\"]", source):
        return source
    try:
        return _Reader(source).code(0, None)[0]
    except (_UnfinishedError, RecursionError):
        return source


class _Reader:
    """Reads Python just well enough to know strings from code."""

    def __init__(self, source: str) -> None:
        self.source = source

    def code(self, at: int, end: str | None) -> tuple[str, int, bool]:
        """Copy code with its f-strings rewritten.

        Args:
            at (`int`): where it starts.
            end (`str`, *optional*): characters that end it outside brackets and strings; to the end of the text
                if `None`.

        Returns:
            `tuple`: the copy, where it ended, and whether it holds a comment, a backslash or a line's end.
        """
        source, copied, depth, modern = self.source, [], 0, False
        while at < len(source):
            character = source[at]
            if self._starts_string(at) is not None:
                text, at = self.strings(at, inside=depth > 0 or end is not None)
                copied.append(text)
                modern = modern or "\\" in text
                continue
            if end is not None and depth == 0 and self._ends(at, end):
                return "".join(copied), at, modern
            if character == "#":
                stop = source.find("\n", at)
                stop = len(source) if stop < 0 else stop
                copied.append(source[at:stop] if end is None else "")
                at, modern = stop, True
                continue
            if character in _OPENING:
                depth += 1
            elif character in _CLOSING:
                depth -= 1
            modern = modern or character in "\\\n"
            copied.append(character)
            at += 1
        if end is not None:
            raise _UnfinishedError
        return "".join(copied), at, modern

    def _ends(self, at: int, end: str) -> bool:
        """Whether an expression in an f-string ends here: at `}`, at `:`, at `!r`, at `=` before one of them."""
        character, following = self.source[at], self.source[at + 1 : at + 2]
        if character not in end:
            return False
        if character == "!":
            return following != "="
        if character == "=":
            before = self.source[at - 1 : at]
            rest = self.source[_space(self.source, at + 1)]
            return before not in ("=", "!", "<", ">", ":") and following != "=" and rest in "}!:"
        return True

    def _starts_string(self, at: int) -> re.Match[str] | None:
        if self.source[at] not in "bBuUfFrR'\"":
            return None
        return _PREFIX.match(self.source, at)

    def strings(self, at: int, *, inside: bool) -> tuple[str, int]:
        """Copy a string and those that follow it: a rewritten one among them is added, not juxtaposed.

        Args:
            at (`int`): where the first one starts.
            inside (`bool`): whether a line may end between them.
        """
        start, parts = at, []
        rewritten = False
        between = re.compile(r"(?:\s|\\\n|#[^\n]*\n)*" if inside else r"(?:[^\S\n]|\\\n)*")
        while True:
            match = self._starts_string(at)
            assert match is not None
            text, stop = self.string(at, match)
            parts.append(text)
            rewritten = rewritten or text != self.source[at:stop]
            gap = between.match(self.source, stop)
            at = gap.end() if gap else stop
            if at >= len(self.source) or self._starts_string(at) is None:
                break
        if not rewritten:
            return self.source[start:stop], stop
        return (f"({' + '.join(parts)})" if len(parts) > 1 else parts[0]), stop

    def string(self, at: int, match: re.Match[str]) -> tuple[str, int]:
        """Copy one string; returns where it ends."""
        prefix, quote = match.group(1), match.group(2)
        start = match.end()
        if "f" not in prefix.lower():
            stop = self._end_of_string(start, quote)
            return self.source[at:stop], stop
        found = _FString()
        stop = self._fstring(start, quote, "r" in prefix.lower(), found, 0)
        if not found.modern:
            return self.source[at:stop], stop
        prefix = prefix.lower().replace("f", "")
        values = ", ".join(f"({value})" for value in found.values)
        return f"({prefix}{quote}{''.join(found.template)}{quote}.format({values}))", stop

    def _end_of_string(self, at: int, quote: str) -> int:
        while at < len(self.source):
            if self.source[at] == "\\":
                at += 2
            elif self.source.startswith(quote, at):
                return at + len(quote)
            elif len(quote) == 1 and self.source[at] == "\n":
                raise _UnfinishedError
            else:
                at += 1
        raise _UnfinishedError

    def _fstring(self, at: int, quote: str, raw: bool, found: _FString, level: int) -> int:
        """Read an f-string's text, or a format specification (`level` above 0), from `at` to its end."""
        source = self.source
        while at < len(source):
            character = source[at]
            if level and character == "}":
                return at
            if not level and source.startswith(quote, at):
                return at + len(quote)
            if character == "\\" and source[at : at + 3] == "\\N{" and not raw:
                stop = source.find("}", at)
                if stop < 0:
                    raise _UnfinishedError
                found.template.append(source[at : stop + 1])
                at = stop + 1
            elif character == "\\" or (source.startswith(("{{", "}}"), at) and not level):
                found.template.append(source[at : at + 2])
                at += 2
            elif character == "{":
                at = self._field(at + 1, quote, raw, found, level)
            elif len(quote) == 1 and character == "\n":
                raise _UnfinishedError
            else:
                found.template.append(character)
                at += 1
        raise _UnfinishedError

    def _field(self, at: int, quote: str, raw: bool, found: _FString, level: int) -> int:
        """Read one `{expression!r:specification}` from after its bracket to after its end."""
        source, start = self.source, at
        expression, at, modern = self.code(at, "}:!=")
        raw_expression = source[start:at]
        found.values.append(expression.strip())
        found.modern = found.modern or modern or quote in raw_expression
        # A rewritten string inside is one that older Pythons reject.
        found.modern = found.modern or expression.strip() != raw_expression.strip()
        conversion = ""
        if source[at] == "=":
            at = _space(source, at + 1)
            text = source[start:at].replace("{", "{{").replace("}", "}}").replace("\\", "\\\\")
            found.template.append(text.replace("\n", "\\n").replace('"', '\\"').replace("'", "\\'"))
            conversion = "!r" if source[at] == "}" else ""
        if source[at] == "!":
            conversion, at = source[at : at + 2], _space(source, at + 2)
        found.template.append("{" + conversion)
        if source[at] == ":":
            found.template.append(":")
            at = self._fstring(at + 1, quote, raw, found, level + 1)
        if source[at] != "}":
            raise _UnfinishedError
        found.template.append("}")
        return at + 1


def _space(source: str, at: int) -> int:
    match = _SPACE.match(source, at)
    end = match.end() if match else at
    if end >= len(source):
        raise _UnfinishedError
    return end
