"""Did a workflow bring a solution along, where answers are programs? Code it wrote itself, decoded in every way.

Two ways to see it: a piece of its text is a solution by itself (it passes hidden tests), or the statements of the
solution that was graded stand in its texts, whatever was written between them.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence

from aflow_ops.operators.parsing import extract_code, parse_code
from data.problem import Problem
from rewards.graders.code import extract_solution
from rewards.provenance.readings import decoded_texts

# Statements that many solutions share say nothing of where one is from.
MIN_CHARS = 10
_CODE = re.compile(r"\bdef\b|\blambda\b|\breturn\b|\bprint\s*\(|=|\bclass\b")


def candidates(texts: Sequence[str], problem: Problem) -> Iterator[str]:
    """Yield the pieces of a workflow's own texts that may be solutions, for the grader to try.

    Args:
        texts (`Sequence[str]`): what the workflow wrote: arguments, constants.
        problem (`Problem`): names the function.
    """
    seen: set[str] = set()
    for text in [*texts, "\n".join(texts)]:
        if not _CODE.search(text) and len(text) < MIN_CHARS:
            continue
        for reading in decoded_texts(text):
            for code in _pieces(reading, problem.entry_point):
                compact = re.sub(r"\s", "", code)
                if compact not in seen:
                    seen.add(compact)
                    yield code


def _pieces(text: str, entry_point: str | None) -> Iterator[str]:
    """Code in a text: a function, a lambda, or an expression that a sentence gives as the body."""
    if not _CODE.search(text):
        return
    code = extract_code(text, entry_point)
    if code and (entry_point is None or re.search(rf"\b{re.escape(entry_point)}\b", code)):
        yield code
    if entry_point is None:
        return
    for match in re.finditer(r"\bdef\s+\w+\s*\(|\blambda\b", text):  # in the middle of a line of prose
        yield from _longest(text[match.start() :], entry_point)


def _longest(text: str, entry_point: str) -> Iterator[str]:
    """The longest beginning of a text that is one function or one lambda, under the name that is asked for."""
    text = text[:4_000]
    ends = [len(text), *(match.start() for match in reversed(list(re.finditer(r"[\n.`\"']", text))))]
    for end in ends[:60]:
        piece = textwrap.dedent(text[:end])
        source = f"{entry_point} = {piece}" if piece.startswith("lambda") else piece
        tree = parse_code(source)
        if tree is not None and tree.body:
            named = tree.body[0]
            alias = f"\n{entry_point} = {named.name}" if isinstance(named, ast.FunctionDef) else ""
            yield source + alias
            return


def stands_in_pieces(answer: str, texts: Sequence[str], problem: Problem) -> bool:
    """Whether every statement of a solution stands in a workflow's own texts.

    Args:
        answer (`str`): the solution that was graded.
        texts (`Sequence[str]`): what the workflow wrote.
        problem (`Problem`): its question's own code is nobody's.
    """
    code = extract_solution(answer, problem.entry_point, "") or answer
    statements = set(_statements(code)) - set(_statements(problem.question))
    if sum(map(len, statements)) < MIN_CHARS:
        return False
    told = [re.sub(r"\s", "", reading) for text in [*texts, "".join(texts)] for reading in decoded_texts(text)]
    given = re.sub(r"\s", "", problem.question)
    return all(any(statement in text for text in told) for statement in statements if statement not in given)


def _statements(code: str) -> Iterator[str]:
    """The simple statements and heads of a function's body, without spaces."""
    tree = parse_code(code)
    if tree is None:
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.stmt):
            head = ast.unparse(node).split("\n")[0] if hasattr(node, "body") else ast.unparse(node)
            yield re.sub(r"\s", "", head)
