"""Answers at the edges of each kind, with the verdict that a careful reader gives them: `edge_answers.jsonl`.

A line has a gold answer, perhaps a question and a context, answers that are `right` or `wrong`, and `most`, the best
tier of the wrong ones.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.grading import grade_answer

KINDS: dict[str, list[dict[str, Any]]] = defaultdict(list)
for line in Path(__file__).with_name("edge_answers.jsonl").read_text(encoding="utf-8").split("\n"):
    if line:
        KINDS[json.loads(line)["kind"]].append(json.loads(line))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_answer_gets_its_verdict(kind: str, sandbox: Sandbox) -> None:
    wrongly = []
    for row in KINDS[kind]:
        gold, domain = row["answer"], "math" if row["source"] in ("math", "aime", "gsm8k") else "qa"
        given = {"question": "What is it?"} | {key: row[key] for key in ("question", "context") if key in row}
        problem = Problem.from_row(given | {"answer": gold, "source": row["source"], "domain": domain})
        for answer in row.get("right", ()):
            if not (await grade_answer(answer, problem, sandbox)).correct:
                wrongly.append(f"lost: {answer!r} for {gold!r}")
        for answer in row.get("wrong", ()):
            grade = await grade_answer(answer, problem, sandbox)
            if grade.correct or grade.tier > row.get("most", 5):
                wrongly.append(f"tier {grade.tier}: {answer!r} for {gold!r}")
    assert not wrongly
