"""Find the workflow in a completion: the code between fences or tags, or the bare text.

Where it looks, in this order: `<workflow>` or `<graph>` tags, Markdown fences, the bare text. Of several fences the
first that is a workflow counts; what it needs of the others, helpers and prompts, is taken from there (`beside.py`). A
policy's thoughts before its answer are not looked at. An unterminated fence or tag runs to the end of the text: whether
the code in it is whole is for the parser to say.
"""

import ast
import html
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aflow_ops.errors import WorkflowError
from aflow_ops.language.beside import definitions_beside, with_helpers, without_thoughts
from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.language.prompt_code import prompt_definitions
from aflow_ops.language.scope import CLASS_NAMES
from aflow_ops.language.workflow import GRAMMAR, SOURCE_NAME
from aflow_ops.operators import spelled
from aflow_ops.python_source import parse_source

# Published workflows are a few kilobytes; this bounds what the parser and the interpreter are given.
MAX_SOURCE_CHARS = 16_000
MAX_NESTING = 60
# Of the texts that may be the workflow, so many are looked at.
MAX_CANDIDATES = 6
# Of the lines that may close a fence, so many are looked at.
MAX_INNER_FENCES = 50
# Ends of a turn that may stand behind each other.
MAX_LEFT_OVER = 20

_TAG = re.compile(r"<(workflow|graph)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
# Where prose speaks of the tag before the tag itself comes.
_INNER_TAG = re.compile(r"<(workflow|graph)>((?:(?!<\1>).)*)</\1>", re.DOTALL | re.IGNORECASE)
_PROMPT = re.compile(r"<(prompts?)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_LITERAL_END = re.compile(r"\]\]>(?=\s*(?:</|\Z))")
# A line that opens a fence; quotes are taken for one with a language behind them only.
_FENCE = re.compile(
    r"(?<!`)(`{3,}|^[^\S\n]*+~{3,}+)[^\n`]*+\n|^[^\S\n]*+(\'{3}|\"{3})(?:python|py)[^\S\n]*\n", re.MULTILINE
)
_LANGUAGE = re.compile(r"(?:python3?|py)\s*", re.IGNORECASE)
_QUOTED = re.compile(r"^[^\S\n]*>[^\S\n]?", re.MULTILINE)
_AROUND = re.compile(r"```+[^\n`]*\n(.*?)(?:\n\s*```+)?", re.DOTALL)
_PYTHON = re.compile(
    rf"^[^\S\n]*(?:class\s+(?:{'|'.join(CLASS_NAMES)})\b|(?:async\s+)?def\s+workflow\b)"
    rf"|^(?:{'|'.join(CLASS_NAMES)}|workflow)\s*=\s*[A-Za-z_]\w*[^\S\n]*$",
    re.MULTILINE,
)
# The end of a turn as it is written out.
_TURN_END = re.compile(r"(?:<\|\w{1,40}\|>|</s>)\Z")
_BULLETS = re.compile(r"(?:[*_`>\s]|[-\u2022]\s)+")
_COMMENT = re.compile(r"\s#.*")
_LABEL = re.compile(r"^(?:final\s+)?(?:workflow|pipeline|graph|dsl|answer|solution)[*_`\s]*:[*_`\s]*", re.IGNORECASE)
_MODULE_LINE = re.compile(r"^(?:import\s|from\s|class\s|def\s|async\s|[A-Za-z_]\w*\s*=)", re.MULTILINE)


@dataclass(frozen=True)
class FoundCode:
    """Text that should be a workflow.

    Args:
        text (`str`): the code or DSL, without fences and tags.
        prompts (`dict[str, Any]`): what the `<prompt>` block or a file beside the workflow defines, as of
            `prompt_definitions`.
        is_python (`bool`): whether it is Python rather than DSL.
    """

    text: str
    prompts: dict[str, Any]
    is_python: bool


def find_workflows(completion: str) -> Iterator[FoundCode]:
    """Yield what may be the workflow in a completion, the likeliest first.

    A model that sketches a workflow, or slips and corrects itself, writes several: the first one that is a workflow
    counts, which is for the parser to say.

    Raises:
        WorkflowError: stage `"find"`: there is none, or what there is is too long or nested too deeply to be looked at.
    """
    if "\x00" in completion:
        raise WorkflowError("find", "the completion contains NUL bytes")
    # Beyond this nothing is searched: a workflow starts early, and patterns on megabytes of text cost seconds.
    completion = completion[: 8 * MAX_SOURCE_CHARS].replace("\r\n", "\n").replace("\r", "\n")
    completion = _unwrapped(without_thoughts(completion.lstrip("\ufeff\u200b")))
    prompts = _prompts_of(completion)
    texts = list(dict.fromkeys([*_with_tags(completion), *_candidates(_PROMPT.sub(_of_no_prompts, completion))]))
    texts = texts[:MAX_CANDIDATES]
    if not texts:
        raise WorkflowError("find", "no workflow in the completion: expected `async def workflow(problem): ...`")
    blocks = [block for block in map(_trimmed, _fenced(completion)) if not _PYTHON.search(block)]
    for text in texts:
        check_size(text)
        is_python = _PYTHON.search(text) is not None
        if is_python and blocks:
            yield FoundCode(with_helpers(text, blocks), {**definitions_beside(text, blocks), **prompts}, is_python)
        else:
            yield FoundCode(text if is_python else _without_markup(text), prompts, is_python)


def _unwrapped(completion: str) -> str:
    """A completion with the fields of a JSON object as tags, and tags without the marks of literal text in XML."""
    for text in (completion, *_fenced(completion)):
        if text.lstrip().startswith("{") and (tagged := _of_fields(text)):
            return tagged
    if re.match(r">", completion) or re.search(r"^[^\S\n]*>[^\S\n]*```", completion, re.MULTILINE):
        completion = _QUOTED.sub("", completion)
    literal = completion.replace("<![CDATA[", "")
    return completion if literal == completion else _LITERAL_END.sub("", literal)


def _of_fields(text: str) -> str | None:
    """The fields of a JSON object that hold a workflow and its prompts, as tags; `None` if none does."""
    try:
        fields = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    graph = next((value for name, value in texts.items() if name == "graph" or _PYTHON.search(value)), None)
    if graph is None:
        return None
    prompts = next((texts[name] for name in ("prompt", "prompts") if name in texts), "")
    return f"<graph>\n{graph}\n</graph>\n<prompt>\n{prompts}\n</prompt>"


def _of_no_prompts(match: re.Match[str]) -> str:
    """What stays of a text that may be a block of prompts: all of one that prose only speaks of."""
    is_closed = match.group().lower().endswith(f"</{match.group(1).lower()}>")
    return "" if is_closed or not _PYTHON.search(match.group(2)) else match.group()


def _with_tags(completion: str) -> Iterator[str]:
    """Yield workflows that write `<prompt>` in a text: with a block of prompts in it none would be Python."""
    if _PROMPT.search(completion) is not None:
        for text in _candidates(completion)[:MAX_CANDIDATES]:
            if _PROMPT.search(text) is not None and _PYTHON.search(text) and _tree(text) is not None:
                yield text


def check_size(text: str) -> None:
    """Check that a text can be parsed in bounded time.

    Raises:
        WorkflowError: stage `"find"`: it is too long or nested too deeply.
    """
    if len(text) > MAX_SOURCE_CHARS:
        raise WorkflowError("find", f"the workflow has {len(text)} characters; at most {MAX_SOURCE_CHARS} are read")
    if _nesting(text) > MAX_NESTING:
        raise WorkflowError("find", f"brackets are nested more than {MAX_NESTING} deep")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WorkflowError("find", "the workflow contains characters that are not valid Unicode") from None


def looks_like_dsl(text: str) -> bool:
    """Whether text without Python in it can be a DSL workflow: a pipeline or a lone operator name."""
    body = _without_markup(text).strip().rstrip(";")
    return bool(re.fullmatch(r"[A-Za-z]\w*", body)) or (
        ("->" in body or "→" in body or "[" in body or "?" in body or "*" in body)
        and bool(re.fullmatch(r"[\w\s\-\[\](),>*?:→;]+", body))
    )


def _candidates(completion: str) -> list[str]:
    """Texts that may be the workflow, the likeliest first."""
    tagged = [match.group(2) for tag in (_TAG, _INNER_TAG) for match in tag.finditer(completion)]
    inside = [inner for text in tagged for inner in _fenced(text)] + tagged
    found = [text for text in inside + _fenced(completion) if _PYTHON.search(text) or looks_like_dsl(text)]
    if not any(map(_PYTHON.search, found)) and _PYTHON.search(completion):  # a fence may stand in one of its texts
        found = [_bare_python(completion), *found]
    if not found:
        whole = [completion] if spelled(completion.strip()) else []
        found = (
            whole
            or [_without_markup(line) for line in [completion, *completion.splitlines()] if _is_bare_dsl(line)][:1]
        )
    if not found:
        found = [text for text in inside + _fenced(completion) if text.strip()]
    return [_trimmed(text) for text in found]


def _bare_python(completion: str) -> str:
    """Python without fences: the whole text if it parses, else from its first line that can start a module."""
    start = _PYTHON.search(completion)
    head = _MODULE_LINE.search(completion)
    assert start is not None
    for text in (completion, completion[head.start() :] if head else ""):
        if _PYTHON.search(text) and _tree(text) is not None:
            return text
    return completion[start.start() :]


def _tree(text: str) -> ast.Module | None:
    """A text as Python; `None` where it is none, or more than is parsed."""
    if len(text) > MAX_SOURCE_CHARS or _nesting(text) > MAX_NESTING:
        return None
    try:
        return parse_source(plain_fstrings(text), SOURCE_NAME, GRAMMAR)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_bare_dsl(line: str) -> bool:
    """Whether a line outside fences is a pipeline of two steps or more: a lone word there is prose."""
    return ("->" in line or "→" in line) and looks_like_dsl(line)


def _fenced(text: str) -> list[str]:
    """Texts between fences. A line that would close one, inside of a text in three quotes, is a part of that text."""
    found, at = [], 0
    while (opening := _FENCE.search(text, at)) is not None:
        fence = (opening.group(1) or opening.group(2)).strip()
        closing = re.compile(rf"\n[^\S\n]*{fence}").finditer(text, opening.end() - 1)
        ends = [match.start() for match in itertools.islice(closing, MAX_INNER_FENCES)]
        end = next(
            (end for end in ends if not _is_in_quotes(text[opening.end() : end])), ends[0] if ends else len(text)
        )
        found.append(text[opening.end() : end])
        at = end + 1 + len(fence)
    return found


def _is_in_quotes(text: str) -> bool:
    """Whether a text ends inside of one in three quotes, as far as their number tells."""
    return text.count('"""') % 2 == 1 or text.count("'''") % 2 == 1


def _trimmed(text: str) -> str:
    """Drop empty lines around the text, the fence lines that a sloppy completion left inside, and what is no space.

    What stands in the texts of a workflow stays: there a tab is a tab.
    """
    written = _without_left_over(_without_end(text.lstrip("\ufeff\u200b\n")))
    spaced = _without_left_over("\n".join(map(_spaced, written.expandtabs(4).split("\n"))))
    mended = "\n".join(line.rstrip() for line in spaced.split("\n")).rstrip("\n")
    if mended == written or (tree := _tree(written)) is None:
        return mended
    other = _tree(mended)
    return mended if other is not None and _constants(other) == _constants(tree) else written


def _constants(tree: ast.Module) -> list[str]:
    return [repr(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def _without_left_over(text: str) -> str:
    lines = text.rstrip().split("\n")
    while len(lines) > 1 and (  # a language alone is somebody's operator
        not lines[0].strip() or lines[0].strip().startswith("```") or _LANGUAGE.fullmatch(lines[0].strip())
    ):
        lines.pop(0)
    left_over = (position for position, line in enumerate(lines) if line.strip().startswith("```"))
    for position in itertools.islice(left_over, MAX_INNER_FENCES):
        if not _is_in_quotes("\n".join(lines[:position])):
            lines = lines[:position]
            break
    return "\n".join(lines)


def _without_end(text: str) -> str:
    """Drop the ends of turns behind a text, and a fence that was closed on the last line of the code."""
    for _ in range(MAX_LEFT_OVER):
        text = text.rstrip().rstrip("\ufeff\u200b")
        code = text.rstrip("`")
        turn_end = _TURN_END.search(text, max(0, len(text) - 50))
        if len(text) - len(code) >= 3:
            text = code
        elif turn_end is not None:
            text = text[: turn_end.start()]
        else:
            break
    return text.rstrip()


def _spaced(line: str) -> str:
    """Write the indentation with the spaces that Python knows."""
    code = line.lstrip(" \u00a0\u200b\ufeff")
    return re.sub("[\u200b\ufeff]", "", line[: len(line) - len(code)]).replace("\u00a0", " ") + code


def _without_markup(text: str) -> str:
    """A pipeline without what Markdown, a label or a comment puts around it."""
    return "\n".join(_LABEL.sub("", _plain(line)) for line in text.strip().split("\n"))


def _plain(line: str) -> str:
    bullets = _BULLETS.match(line)
    return _COMMENT.sub("", line[bullets.end() :] if bullets else line).rstrip("*_` \t")


def _prompts_of(completion: str) -> dict[str, Any]:
    for match in itertools.islice(_PROMPT.finditer(completion), MAX_CANDIDATES):
        text = match.group(2).strip()
        # A line of backquotes may be a fence around the prompts, or stand in one of them.
        unfenced = _AROUND.fullmatch(text)
        for found in (unfenced.group(1) if unfenced else text, _trimmed(text), html.unescape(text)):
            if definitions := prompt_definitions(found):
                return definitions
    return {}


def _nesting(text: str) -> int:
    """Upper bound of what a recursive parser must descend: open brackets, unary chains and indentation."""
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    chain = max((len(run) for run in re.findall(r"(?:[-+~]\s*|not\s+){20,}", text)), default=0)
    indent = max((len(line) - len(line.lstrip()) for line in text.splitlines()), default=0) // 4
    return max(deepest, chain, indent)
