"""Solutions at the edges of each kind, with their verdicts: `edge_code.jsonl`.

A line has tests in one of the forms of `data/code_tests.py` and solutions that are `right` or `wrong`.
"""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.grading import grade_answer

KINDS: dict[str, list[dict[str, Any]]] = defaultdict(list)
for line in Path(__file__).with_name("edge_code.jsonl").read_text(encoding="utf-8").split("\n"):
    if line:
        KINDS[json.loads(line)["kind"]].append(json.loads(line))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_every_solution_gets_its_verdict(kind: str, sandbox: Sandbox) -> None:
    async def misjudged(row: dict[str, Any], solution: str, right: bool) -> str | None:
        row = {"question": "Write it.", "answer": "", "source": "made", "domain": "code"} | row
        grade = await grade_answer(solution, Problem.from_row(row), sandbox)
        return None if grade.correct == right else f"{'lost' if right else 'accepted'}: {solution}: {grade.detail}"

    said = [
        misjudged(row, solution, verdict == "right")
        for row in KINDS[kind]
        for verdict in ("right", "wrong")
        for solution in row.get(verdict, ())
    ]
    assert not [text for text in await asyncio.gather(*said) if text]
