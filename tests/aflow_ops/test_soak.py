"""Many programs, a tenth of them hostile: no honest one comes to harm, and nothing stays behind."""

import asyncio
import os
import random

import psutil
import pytest

from aflow_ops.sandbox import open_sandbox
from tests.aflow_ops.test_escapes import CALLS, PROGRAMS, program

PROGRAM_COUNT = int(os.environ.get("AFLOW_SOAK_PROGRAMS", "400"))
HOSTILE_SHARE = 0.1
MEGABYTE = 2**20


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
async def test_a_soak_harms_no_honest_program_and_leaves_nothing() -> None:
    draw, names = random.Random(0), sorted([*CALLS, *PROGRAMS])
    this = psutil.Process()
    async with open_sandbox(concurrency=2) as sandbox:

        async def one(number: int) -> bool:
            if draw.random() < HOSTILE_SHARE:
                result = await sandbox.run(program(draw.choice(names)), timeout=30)
                return "ESCAPED" not in result.stdout
            result = await sandbox.run(f"print(sum(range({number})))", timeout=30)
            return result.stdout == f"{sum(range(number))}\n"

        assert all([await one(number) for number in range(20)])
        before = set(this.children(recursive=True)), this.num_fds(), this.memory_info().rss
        for start in range(0, PROGRAM_COUNT, 100):
            assert all(await asyncio.gather(*(one(start + offset) for offset in range(100))))
        assert len(set(this.children(recursive=True)) - before[0]) <= 3  # the second worker
        assert this.num_fds() - before[1] <= 4
        assert this.memory_info().rss - before[2] < 64 * MEGABYTE
        assert sandbox.counts.replaced == 0
