"""Many programs, a tenth of them hostile, half of them graded: none honest comes to harm, and nothing stays behind.

`AFLOW_SOAK_PROGRAMS=20000 make test-long` is the long form. With `-s`, pytest shows what was left.
"""

import asyncio
import os
import random
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

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


@dataclass
class Held:
    """What this process and those below it hold.

    Args:
        processes (`int`): below it.
        descriptors (`int`): of its own.
        ports (`int`): on which any of them listens or talks.
        files (`int`): that programs would leave where anybody may write.
        megabytes (`float`): its own memory.
        worker_megabytes (`float`): that of the processes below it.
    """

    processes: int
    descriptors: int
    ports: int
    files: int
    megabytes: float
    worker_megabytes: float


def held() -> Held:
    """Count it all."""
    this, ports, memory = psutil.Process(), 0, 0
    below = this.children(recursive=True)
    for process in below:
        with suppress(psutil.NoSuchProcess):
            ports += len(process.net_connections("inet"))
            memory += process.memory_info().rss
    places = [Path(folder) / name for folder in ("/tmp", "/var/tmp", "/dev/shm") for name in ("escaped", "left")]
    ports += len(this.net_connections("inet"))
    files = sum(path.exists() for path in places)
    own = this.memory_info().rss
    return Held(len(below), this.num_fds(), ports, files, own / MEGABYTE, memory / MEGABYTE)


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
async def test_a_soak_harms_no_honest_program_and_leaves_nothing() -> None:
    draw, names = random.Random(0), sorted([*CALLS, *PROGRAMS])
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
        before = held()
        for start in range(0, PROGRAM_COUNT, 100):
            right = await asyncio.gather(*(one(start + offset) for offset in range(100)))
            assert all(right), f"{right.count(False)} wrong from program {start} on"
        after = held()
        print(f"{PROGRAM_COUNT} programs, {sandbox.counts.replaced} workers replaced", asdict(before), asdict(after))
        # Both workers may be others by now; each is two processes of bubblewrap's and an interpreter.
        assert after.processes <= 2 * before.processes
        assert after.descriptors - before.descriptors <= 4
        assert (after.ports, after.files) == (before.ports, 0)
        assert after.megabytes - before.megabytes < 64
        assert after.worker_megabytes < 2 * before.worker_megabytes + 64
        assert sandbox.counts.replaced <= 0.1 * HOSTILE_SHARE * PROGRAM_COUNT
