"""A bubblewrap that is killed while it starts leaves a child that waits for ever: it is ended, and no other is."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
from pydantic_monty._binary import find_monty_binary

from aflow_ops.rings.first import FirstRing
from aflow_ops.rings.limits import RuntimeLimits
from aflow_ops.sandbox.strays import end_strays
from aflow_ops.sandbox.walls import walled_binary
from tests.patience import until


@contextmanager
def starting(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Bubblewrap that has made its child and not told it to go on: what it is to report first fits in no pipe."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (1 << 16, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"-" * size)
    os.set_blocking(writer, True)
    end = command.index("--")
    command = [*command[:end], "--info-fd", str(writer), *command[end:], "subprocess"]
    process = subprocess.Popen(command, pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        end_strays()
        os.close(reader)
        os.close(writer)


@pytest.fixture
def command() -> list[str]:
    walled = walled_binary(find_monty_binary())
    if walled is None:
        pytest.skip("no namespaces")
    return walled


async def child_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    outer = psutil.Process(process.pid)
    await until(lambda: bool(outer.children()))
    return outer.children()[0]


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_a_child_that_lost_its_bubblewrap_is_ended_and_no_other(command: list[str]) -> None:
    with starting(command) as lost, starting(command) as alive:
        orphan, child = await child_of(lost), await child_of(alive)
        end_strays()
        assert not has_ended(orphan) and not has_ended(child)
        lost.kill()
        lost.wait()
        end_strays()
        await until(lambda: has_ended(orphan))
        assert not has_ended(child)


async def test_a_first_ring_ends_what_an_earlier_run_left(command: list[str]) -> None:
    with starting(command) as lost:
        orphan = await child_of(lost)
        lost.kill()
        lost.wait()
        async with FirstRing(RuntimeLimits()):
            await until(lambda: has_ended(orphan))


async def test_another_programs_sandbox_is_left_alone(command: list[str]) -> None:
    with starting(["elsewhere" if argument == "sandbox" else argument for argument in command]) as lost:
        orphan = await child_of(lost)
        lost.kill()
        lost.wait()
        end_strays()
        try:
            assert not has_ended(orphan)
        finally:
            orphan.kill()
