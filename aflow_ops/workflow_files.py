"""Workflows in files: AFlow's `graph.py` with its `prompt.py` beside it, the short form, or a line of DSL."""

import codecs
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError
from aflow_ops.language import prompt_definitions
from aflow_ops.language.constants import parse_prompts

MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class WorkflowFile:
    """A workflow's text before it is parsed.

    Args:
        text (`str`): of the file.
        prompts (`dict[str, Any]`): what the `prompt.py` beside it defines, as of `prompt_definitions`.
    """

    text: str
    prompts: dict[str, Any]


def read_workflow_file(path: Path, said: str) -> WorkflowFile:
    """Read a workflow, and the `prompt.py` beside it if the workflow speaks of prompts.

    Args:
        path (`Path`): the file.
        said (`str`): how the command line names it, such as `"--workflow"`.

    Raises:
        UsageError: one of them cannot be read, or the prompts are no Python.
    """
    text, beside = read_source(path, said), path.with_name("prompt.py")
    if "prompt" not in text or not beside.is_file():
        return WorkflowFile(text, {})
    source = read_source(beside, "prompt file")
    try:
        parse_prompts(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" at line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "it is nested too deeply"
        raise UsageError(f"prompt file {beside} is no Python: {reason}{line}") from None
    return WorkflowFile(text, prompt_definitions(source))


def read_source(path: Path, said: str = "") -> str:
    """Return a file of Python in the encoding that its mark or its first lines say, else UTF-8 (PEP 263).

    Args:
        path (`Path`): the file.
        said (`str`): what it is, for errors.

    Raises:
        UsageError: it cannot be read, is too long, or is in another encoding.
    """
    name = f"{said} {path}".strip()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{name} has more than {MAX_FILE_BYTES} bytes; so many are read")
    try:
        return _decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{name} cannot be read: byte 0x{data[error.start]:02x} in line {line} is no {error.encoding}; save "
            "it as UTF-8, or name its encoding in the first line: # -*- coding: latin-1 -*-"
        ) from None
    except (SyntaxError, LookupError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise UsageError(f"{name} cannot be read: {reason}; save it as UTF-8") from None


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        if error.msg.startswith("invalid or missing encoding declaration"):  # no declaration, and no UTF-8
            return data.decode("utf-8-sig")
        raise
    return data.decode(encoding)
