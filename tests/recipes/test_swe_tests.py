"""The episodes of `recipes/swe.py` share what the hidden tests say of an edit."""

import pytest

from aflow_ops.agents.tools.local_tests import LocalTests
from aflow_ops.sandbox import Sandbox
from data.registry import load_problems
from data.repository_tasks import repository_task
from recipes.swe import repository_team


async def test_equal_edits_of_two_episodes_are_tested_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, run = [], LocalTests.run

    async def counted(*asked):  # type: ignore[no-untyped-def]
        runs.append(asked)
        return await run(*asked)

    monkeypatch.setattr(LocalTests, "run", counted)
    problem = load_problems("planted_bugs", "train", 1, 0)[0]
    team = repository_team(sandbox)
    for _ in range(2):
        async with team.tools(problem) as tools:
            assert await tools.score(tools.attempt(repository_task(problem).patch)) == 1.0
            assert await tools.score(tools.attempt("nothing")) == 0.0
    assert len(runs) == 1
