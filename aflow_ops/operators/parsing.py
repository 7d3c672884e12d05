"""Reading what an executor wrote: code, tagged parts, a choice, a verdict.

Models forget tags, talk around their code and stop in the middle. Nothing here raises on any text, and nothing here
runs any of it: code is only parsed.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from aflow_ops.python_source import parse_source

# More than this is not an answer; parsing it would only cost time.
MAX_CODE_CHARS = 40_000
# Each round drops at least one line from the end of a piece of code that does not parse.
MAX_REPAIR_ROUNDS = 40

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.#-]*)[^\n`]*$", re.MULTILINE)
_CODE_LINE = re.compile(
    r"\s+\S|\s*$|#|@|[)\]}]|(?:async |await |def |class |import |from |if |elif |else\b|for |while |try\b|except\b"
    r"|finally\b|with |return\b|raise\b|assert |print\(|pass\b|global |lambda )|[\w.\[\]'\", ]+\s*[-+*/]?=[^=]"
)
_CODE_START = re.compile(r"(?:async def |def |class |import |from \S+ import |@\w)")
_MAIN_KEYS = ("response", "answer", "output", "solution", "feedback")
_KEPT_STATEMENTS = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Try,
)
_SOURCE_NAME = "<executor>"
# Parsing warns about odd escapes and comparisons; they are the executor's, and of no use on this process's stderr.
warnings.filterwarnings("ignore", module=re.escape(_SOURCE_NAME))


def as_text(value: Any) -> str:
    """Return any operator argument as text.

    Args:
        value (`Any`): text stays as it is; the dict that an operator returned stands for its main output; `None` is
            empty; anything else is shown by `str`.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping):
        for key in _MAIN_KEYS:
            if isinstance(value.get(key), str):
                return str(value[key])
    return str(value)


def extract_tag(text: str, name: str) -> str | None:
    """Return what stands in the first `<name>...</name>`, stripped, or `None`.

    A tag that is never closed reaches to the next tag or to the end. Case and attributes of the tag do not matter.
    """
    opening = re.search(rf"<{re.escape(name)}\b[^<>\n]*>", text, re.IGNORECASE)
    if opening is None:
        return None
    rest = text[opening.end() :]
    closing = re.search(rf"</\s*{re.escape(name)}\s*>", rest, re.IGNORECASE)
    if closing is None:
        closing = re.search(r"^[^\S\n]*</?[A-Za-z]\w*>", rest, re.MULTILINE)
    return (rest[: closing.start()] if closing else rest).strip()


def strip_tags(text: str, *names: str) -> str:
    """Return the text without the opening and closing tags called `names`, stripped."""
    alternatives = "|".join(re.escape(name) for name in names)
    return re.sub(rf"</?\s*(?:{alternatives})\b[^<>\n]*>", "", text, flags=re.IGNORECASE).strip()


def parse_code(code: str) -> ast.Module | None:
    """Return the syntax tree, or `None` when this is not Python."""
    if len(code) > MAX_CODE_CHARS:
        return None
    try:
        return parse_source(code, _SOURCE_NAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def function_names(code: str) -> list[str]:
    """Return the names of the top-level functions of a piece of code, in order; empty when it is not Python."""
    tree = parse_code(code)
    return [] if tree is None else _functions(tree)


def extract_code(text: str, entry_point: str | None = None) -> str:
    """Return the Python code in a reply; an empty string when there is none.

    Fenced blocks (closed or not) come first, then `<code>`-like tags, then runs of lines that look like code. Code cut
    off in the middle loses its broken end.

    Args:
        text (`str`): what the executor wrote.
        entry_point (`str`, *optional*): name of the function wanted. The last block that defines it wins over all
            other blocks; without one, the blocks are joined if that makes them whole, else the longest is taken.
    """
    text = _clean(text)
    pieces = [code for code in (_parsable_part(block) for block in _code_blocks(text)) if code]
    if not pieces:
        return ""
    if entry_point is None:
        return max(pieces, key=len)
    for code in reversed(pieces):
        if entry_point in function_names(code):
            return _with_imports(code, pieces)
    return max(pieces, key=lambda code: (bool(function_names(code)), len(code)))


def keep_definitions(code: str) -> str:
    """Return the code without top-level statements that only do something: calls, prints, asserts, a main block.

    Imports, functions, classes and assignments stay. Text that is not Python is returned as it is.
    """
    tree = parse_code(code)
    if tree is None:
        return code
    kept: list[ast.stmt] = [node for node in tree.body if isinstance(node, _KEPT_STATEMENTS)]
    if len(kept) == len(tree.body):
        return code.strip("\n")
    try:
        return ast.unparse(ast.Module(body=kept, type_ignores=[]))
    except (RecursionError, ValueError):
        return code


def extract_letter(text: str, count: int) -> int | None:
    """Return which of `count` lettered choices (at most 26) a reply names, counted from 0, or `None`.

    A tag or a phrase such as `answer: B` wins over a bare letter; of several bare letters, the last one that is not
    the words "A" or "I".
    """
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: max(count, 0)]
    if not letters:
        return None
    allowed = f"[{letters}]"
    short = re.fullmatch(rf"\W*({allowed})\W*", text.strip()[:40], re.IGNORECASE)
    named = re.findall(
        rf"\b(?:answer|choice|choose|solution|option|letter|best|is)\W{{0,8}}(?:is\W{{1,4}})?({allowed})\b(?!['’])",
        text,
    )
    tagged = re.search(rf"<\w+>\s*\(?({allowed})\b", text)
    bare = re.findall(rf"(?<![\w'’])({allowed})(?![\w'’])", text)
    words = [letter for letter in bare if letter not in "AI"]
    for found in ([short.group(1)] if short else [], [tagged.group(1)] if tagged else [], named, words, bare):
        if found:
            return letters.index(found[-1].upper())
    return None


def extract_verdict(text: str) -> bool | None:
    """Return whether a review calls the solution right, or `None` when it does not say.

    Words such as "incorrect", "wrong" or "not correct" count as a no wherever they stand before a yes.
    """
    match = re.search(
        r"\b(?P<no>(?:not|isn't|n't)\s+(?:\w+\s+)?(?:correct|right|true|valid|ok)|incorrect|wrong|false|invalid|no)\b"
        r"|\b(?P<yes>correct|right|true|valid|ok|okay|yes)\b",
        text,
        re.IGNORECASE,
    )
    return None if match is None else match.group("yes") is not None


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")[:MAX_CODE_CHARS]


def _code_blocks(text: str) -> list[str]:
    fenced = [block for language, block in _fenced(text) if language in ("", "python", "py", "python3")]
    if any(block.strip() for block in fenced):
        return fenced
    for name in ("code", "python", "solution", "answer"):
        tagged = extract_tag(text, name)
        if tagged:
            return [tagged]
    if parse_code(text) is not None and _looks_like_code(text):
        return [text]
    return list(_runs_of_code(text))


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """Yield language and content of each fence; one that is never closed ends with the text."""
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opening is None:
            opening = fence
        elif fence.group(1).startswith(opening.group(1)):
            yield opening.group(2).lower(), text[opening.end() : fence.start()]
            # A language after a second fence means that the first block was left open.
            opening = fence if fence.group(2) else None
    if opening is not None:
        yield opening.group(2).lower(), text[opening.end() :]


def _looks_like_code(text: str) -> bool:
    """Tell code from prose that happens to parse, such as one word."""
    return re.search(r"[=(\[]|^[^\S\n]*(?:import|return)\b", text, re.MULTILINE) is not None


def _runs_of_code(text: str) -> Iterator[str]:
    run: list[str] = []
    for line in text.split("\n"):
        inside = bool(run) and _CODE_LINE.match(line)
        if inside or _CODE_START.match(line.lstrip() if not run else line):
            run.append(line)
        elif run:
            yield "\n".join(run)
            run = []
    if run:
        yield "\n".join(run)


def _parsable_part(block: str) -> str:
    """Return the block, dedented, as far as it parses from its first line on."""
    lines = textwrap.dedent(block.strip("\n")).rstrip().split("\n")
    for _ in range(MAX_REPAIR_ROUNDS):
        code = "\n".join(lines)
        if not code.strip():
            return ""
        try:
            parse_source(code, _SOURCE_NAME)
            return code
        except SyntaxError as error:
            broken = (error.lineno or len(lines)) - 1
            lines = lines[: max(0, min(broken, len(lines) - 1))]
        except (ValueError, RecursionError, MemoryError):
            return ""
    return ""


def _functions(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _with_imports(code: str, pieces: list[str]) -> str:
    """Put imports in front that stand alone in another block, as models like to write them."""
    for piece in pieces:
        tree = parse_code(piece)
        if piece != code and tree is not None and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body):
            return f"{piece}\n\n{code}"
    return code
