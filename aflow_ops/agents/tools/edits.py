"""Edits of a repository as a model writes them: search/replace blocks or a unified diff, applied strictly.

    shop/stock.py
    <<<<<<< SEARCH
        return sum(items) + 1
    =======
        return sum(items)
    >>>>>>> REPLACE

What is searched for must stand in the file exactly once; an empty search makes a file that is not there. Hunks of a
diff must match every line that they show, at the place that they name or at the only one where they fit. Nothing is
guessed: an edit that could mean two things, leaves the repository or touches a test is refused with the reason, and
then none is applied.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from data.repository_tasks import MAX_FILE_CHARS, checked_path, is_test

MAX_ANSWER_CHARS = 200_000
MAX_EDITS = 50
MAX_PLACES = 100
_SEARCH, _MIDDLE, _REPLACE = (
    re.compile(pattern) for pattern in (r"<{5,9} ?SEARCH\s*", r"={5,9}\s*", r">{5,9} ?REPLACE\s*")
)
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_FILE_HEAD = re.compile(r"^--- \S.*\n\+\+\+ \S", re.MULTILINE)
# What a diff can say beside its lines. Links, modes and names are no text: an edit that wants another is refused.
_BEYOND_TEXT = re.compile(
    r"(rename|copy) (from|to) |GIT binary patch|Binary files .* differ|(new|old) mode \d|"
    r"new file mode (?!100644)|deleted file mode (?!100)"
)


class EditRefusedError(ValueError):
    """Edits that are not applied; the message says why, in words for the one who wrote them."""


@dataclass(frozen=True)
class Edit:
    """One change of one file.

    Args:
        path (`str`): of the file.
        old (`str`): lines that stand there; empty to make the file.
        new (`str`): lines that shall.
        line (`int`, *optional*): where the old ones start, from 1, as a diff says.
        removes (`bool`): the file goes.
    """

    path: str
    old: str
    new: str
    line: int | None = None
    removes: bool = False


def parse_edits(answer: str) -> list[Edit]:
    """Find the edits in an answer.

    Args:
        answer (`str`): prose and fences around them do not matter.

    Raises:
        EditRefusedError: there are none, too many, or one is not complete.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        raise EditRefusedError(f"the answer has {len(answer)} characters; at most {MAX_ANSWER_CHARS} are read")
    lines = answer.replace("\r\n", "\n").split("\n")
    blocks, others = _blocks(lines)
    hunks = _hunks(others) if _FILE_HEAD.search("\n".join(others)) else []
    if blocks and hunks:
        raise EditRefusedError("search/replace blocks and a diff in one answer: use one of them")
    edits = blocks or hunks
    if not edits:
        raise EditRefusedError("no edit found: write a search/replace block or a unified diff")
    if len(edits) > MAX_EDITS:
        raise EditRefusedError(f"{len(edits)} edits; at most {MAX_EDITS} are applied")
    return edits


def _blocks(lines: list[str]) -> tuple[list[Edit], list[str]]:
    """The search/replace blocks, and the lines that are in none."""
    edits, others, at, path = list[Edit](), list[str](), 0, None
    while at < len(lines):
        if not _SEARCH.fullmatch(lines[at]):
            others.append(lines[at])
            at += 1
            continue
        path = _path_above(lines, at) or path
        middle = _next(lines, at + 1, _MIDDLE)
        end = _next(lines, middle + 1, _REPLACE) if middle else 0
        if not middle or not end:
            raise EditRefusedError("a search/replace block has no end: it needs ======= and >>>>>>> REPLACE")
        if any(_MIDDLE.fullmatch(line) for line in lines[middle + 1 : end]):
            raise EditRefusedError("a search/replace block has two lines of =======: which one parts it is not clear")
        if path is None:
            raise EditRefusedError("a search/replace block needs the file's path in the line above it")
        edits.append(Edit(path, _text(lines[at + 1 : middle]), _text(lines[middle + 1 : end])))
        at = end + 1
    return edits, others


def _next(lines: list[str], start: int, pattern: re.Pattern[str]) -> int:
    """The next line that matches, 0 if another block begins first or there is none."""
    for at in range(start, len(lines)):
        if pattern.fullmatch(lines[at]):
            return at
        if _SEARCH.fullmatch(lines[at]):
            return 0
    return 0


def _path_above(lines: list[str], at: int) -> str | None:
    """The path in the line above a block, a fence between them left out."""
    above = [line.strip() for line in lines[max(0, at - 3) : at]]
    while above and (not above[-1] or above[-1].startswith(("```", "~~~"))):
        above.pop()
    if not above or _REPLACE.fullmatch(above[-1]):
        return None
    found = above[-1].lstrip("#").strip().strip("`*").rstrip(":").strip("`*")
    return found if found and " " not in found else None


def _text(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _hunks(lines: list[str]) -> list[Edit]:
    edits: list[Edit] = []
    at, old_path, new_path = 0, "", ""
    while at < len(lines):
        line = lines[at]
        if _BEYOND_TEXT.match(line):
            raise EditRefusedError(f"{line[:60]!r}: a diff may change, add and remove lines and files, no more")
        if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            old_path, new_path = _diff_path(line), _diff_path(lines[at + 1])
            at += 2
            continue
        head = _HUNK.match(line)
        if line.startswith("@@") and (head is None or not new_path):
            raise EditRefusedError(f"{line[:60]!r}: a hunk says @@ -line,count +line,count @@, below its file's name")
        if head is None:
            at += 1
            continue
        at, old, new = _hunk_body(lines, at + 1)
        removes = new_path == "/dev/null"
        edits.append(Edit(old_path if removes else new_path, _text(old), _text(new), int(head[1]) or None, removes))
        if not removes and old_path not in ("/dev/null", new_path):
            raise EditRefusedError(f"{old_path!r} becomes {new_path!r}: files are not renamed")
    return edits


def _diff_path(line: str) -> str:
    name = line[4:].split("\t")[0].strip()
    return name if name == "/dev/null" else re.sub(r"^[ab]/", "", name)


def _hunk_body(lines: list[str], at: int) -> tuple[int, list[str], list[str]]:
    """The lines of a hunk before and after it, and where the next one may begin."""
    body: list[str] = []
    while at < len(lines) and lines[at][:1] in ("", " ", "+", "-", "\\"):
        if lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            break
        if lines[at][:1] != "\\":  # "no newline at end of file"
            body.append(lines[at])
        at += 1
    while body and not body[-1]:  # what follows the diff
        body.pop()
    return at, [line[1:] for line in body if line[:1] != "+"], [line[1:] for line in body if line[:1] != "-"]


def apply_edits(files: Mapping[str, str], edits: list[Edit], protected: Collection[str] = ()) -> dict[str, str]:
    """Return the files after all edits, in their order.

    Args:
        files (`Mapping[str, str]`): path to text.
        edits (`list[Edit]`): of `parse_edits`.
        protected (`Collection[str]`): more files that may not be touched, such as hidden tests.

    Raises:
        EditRefusedError: one cannot be applied; then none is.
    """
    changed = dict(files)
    for edit in edits:
        path = _allowed(edit.path, protected)
        if edit.removes:
            if changed.get(path) != edit.old and changed.get(path, "").rstrip("\n") != edit.old.rstrip("\n"):
                raise EditRefusedError(f"{path} is not what the diff removes")
            del changed[path]
            continue
        changed[path] = _edited(changed, path, edit)
        if len(changed[path]) > MAX_FILE_CHARS:
            raise EditRefusedError(f"{path} would have more than {MAX_FILE_CHARS} characters")
    if changed == dict(files):
        raise EditRefusedError("the edits change nothing")
    return changed


def _allowed(path: str, protected: Collection[str]) -> str:
    try:
        checked_path(path)
    except ValueError as error:
        raise EditRefusedError(str(error)) from None
    if is_test(path) or path in protected:
        raise EditRefusedError(f"{path} is a test or decides how tests run: it may not be edited")
    return path


def _edited(files: Mapping[str, str], path: str, edit: Edit) -> str:
    if not edit.old.strip():
        if not files.get(path, "").strip():
            return edit.new
        raise EditRefusedError(f"{path} is there already: say which of its lines are to be replaced")
    if path not in files:
        raise EditRefusedError(f"there is no file {path}")
    text = files[path]
    ended = text if text.endswith("\n") else text + "\n"
    starts = _places(ended, edit.old)
    if edit.line is not None and len(starts) > 1:
        starts = [start for start in starts if ended.count("\n", 0, start) + 1 == edit.line] or starts
    if len(starts) != 1:
        first = edit.old.strip().split("\n")[0][:60]
        what = "does not have" if not starts else f"has {len(starts)} times"
        raise EditRefusedError(f"{path} {what} the lines that start with {first!r}")
    return ended[: starts[0]] + edit.new + ended[starts[0] + len(edit.old) :]


def _places(text: str, wanted: str) -> list[int]:
    """The first positions at a line's start where whole lines stand."""
    found: list[int] = []
    at = text.find(wanted)
    while at >= 0 and len(found) < MAX_PLACES:
        if at == 0 or text[at - 1] == "\n":
            found.append(at)
        at = text.find(wanted, at + 1)
    return found
