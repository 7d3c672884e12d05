"""Many programs, a tenth of them hostile, half of them graded: none honest comes to harm, and nothing stays behind.

`AFLOW_SOAK_PROGRAMS=20000 make test-long` is the long form: two hours on two cores.
"""

import asyncio
import os
import random

import psutil
import pytest

from aflow_ops.sandbox import open_sandbox
from data.problem import Problem
from rewards.graders.code import grade_code
from tests.aflow_ops.test_escapes import CALLS, PROGRAMS, program

PROGRAM_COUNT = int(os.environ.get("AFLOW_SOAK_PROGRAMS", "500"))
HOSTILE_SHARE = 0.1
GRADED_SHARE = 0.5
MEGABYTE = 2**20
DOUBLE = Problem.from_row(
    {
        "question": "Double it.",
        "answer": "",
        "source": "made",
        "domain": "code",
        "entry_point": "double",
        "tests": [f"assert candidate({number}) == {2 * number}" for number in range(5)],
    }
)


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
async def test_a_soak_harms_no_honest_program_and_leaves_nothing() -> None:
    draw, names = random.Random(0), sorted([*CALLS, *PROGRAMS])
    this = psutil.Process()
    async with open_sandbox(concurrency=2) as sandbox:

        async def is_right(solution: str) -> bool:
            return (await grade_code(solution, DOUBLE, sandbox)).correct

        async def one(number: int) -> bool:
            hostile, graded, name = draw.random() < HOSTILE_SHARE, draw.random() < GRADED_SHARE, draw.choice(names)
            if hostile and graded:
                return not await is_right(f"{program(name)}\ndef double(x):\n    return x\n")
            if hostile:
                return "ESCAPED" not in (await sandbox.run(program(name), timeout=30)).stdout
            if graded:
                added = number % 2
                return await is_right(f"def double(x):\n    return 2 * x + {added}\n") == (not added)
            result = await sandbox.run(f"print(sum(range({number})))", timeout=30)
            return result.stdout == f"{sum(range(number))}\n"

        assert all([await one(number) for number in range(20)])
        before = set(this.children(recursive=True)), this.num_fds(), this.memory_info().rss
        for start in range(0, PROGRAM_COUNT, 100):
            assert all(await asyncio.gather(*(one(start + offset) for offset in range(100))))
        # Both workers may be others by now; each is two processes of bubblewrap's and an interpreter.
        assert len(this.children(recursive=True)) <= 2 * len(before[0])
        assert this.num_fds() - before[1] <= 4
        assert this.memory_info().rss - before[2] < 64 * MEGABYTE
        print(f"{sandbox.counts.replaced} workers replaced")
        assert sandbox.counts.replaced <= 0.1 * HOSTILE_SHARE * PROGRAM_COUNT
