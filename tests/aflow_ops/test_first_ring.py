"""What a hostile workflow can do to the trainer's process: nothing that takes its time, its memory or its files."""

import asyncio
import json
import os
import time
from pathlib import Path

import psutil
import pytest
from pydantic_monty._binary import find_monty_binary

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox
from aflow_ops.sandbox.walls import walled_binary
from aflow_ops.trace import Trace
from aflow_ops.values import MAX_PARTS, answer_text, is_bounded
from tests.aflow_ops.test_operators import run

SHARED = "x = ['aaaaaaaaaa']\nfor _ in range(25):\n    x = [x, x]\n"
DEEP = "x = []\nfor _ in range(100_000):\n    x = [x]\n"
ITSELF = "x = []\nx.append(x)\n"
LONG = "x = 'a' * 10_000_000\n"
VOTE = "return (await sc_ensemble(solutions=x, problem=problem))['response']"
ASK = "return (await custom(input=x))['response']"
LOOPS = "        while True:\n            pass\n"
HOSTILE = {
    "lists that share lists, to an operator": SHARED + VOTE,
    "lists that share lists, as text": SHARED + ASK,
    "lists that share lists, in a dict": SHARED + "return (await custom(input={'a': x}))['response']",
    "lists that share lists, as the answer": SHARED + "return x",
    "lists that share lists, as an answer in a dict": SHARED + "return {'answer': {'a': x, 'b': x}}",
    "a long text a thousand times": LONG + "return [x] * 1000",
    "a long text a thousand times, to an operator": LONG + "x = [x] * 1000\n" + VOTE,
    "a list that holds itself": ITSELF + "return x",
    "a list that holds itself, to an operator": ITSELF + VOTE,
    "a deep list": DEEP + "return x",
    "a deep list, to an operator": DEEP + VOTE,
    "a deep list, compared": DEEP + "y = x\n" + DEEP + "return x == y and 1 / 0",
    "a deep list, printed": DEEP + "return repr(x) + 1",
    "a huge integer": "return 7 ** 100_000",
    "a huge integer, to an operator": "x = 7 ** 100_000\n" + ASK,
    "an integer that grows": "x = 7\nwhile True:\n    x = x * x",
    "a long name of an argument": "return await custom(**{'a' * 1_000_000: 1})",
    "many arguments": "return await custom(**{'a' + str(i): i for i in range(100_000)})",
    "a long error": "raise ValueError('x' * 10_000_000)",
    "an error that never says what it is": f"class E(Exception):\n    def __str__(self):\n{LOOPS}raise E()",
    "an object that never says what it is": f"class A:\n    def __str__(self):\n{LOOPS}x = A()\n" + ASK,
    "an endless generator": "def g():\n    while True:\n        yield 1\nx = g()\n" + VOTE,
    "an endless range": "x = range(10 ** 12)\n" + VOTE,
    "a width": "return '{:>99999999999}'.format(1)",
    "a width in an f-string": "return f'{1:>{10 ** 11}}'",
    "a replacement": "x = 'a' * 100_000\nreturn x.replace('a', x)",
    "a shift": "return 1 << 10 ** 11",
    "a list times": "return [1] * 10 ** 11",
    "a nested pattern": "import re\nre.compile('(' * 10_000 + ')' * 10_000)\nraise ValueError",
    "an exit": "raise SystemExit(0)",
    "a cancellation": "raise asyncio.CancelledError()",
    "the end of memory": "raise MemoryError()",
    "the environment": "import os\nreturn os.environ['PATH']",
    "a folder": "import os\nreturn str(os.listdir('/'))",
    "a file": "from pathlib import Path\nreturn Path('/etc/passwd').read_text()",
    "a name of a file": "from pathlib import Path\nreturn 1 / 0 if Path('/etc/passwd').exists() else 1 / 0",
    "a connection": "import socket\nreturn socket.create_connection(('127.0.0.1', 80))",
    "a process": "import subprocess\nreturn subprocess.run(['id'])",
}
MEGABYTE = 2**20


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_workflow_costs_the_trainer_nothing(name: str, runtime: WorkflowRuntime) -> None:
    this = psutil.Process()
    before = this.memory_info().rss, time.process_time()
    try:
        trace: Trace | None = await run(runtime, HOSTILE[name])
    except Exception as error:
        if type(error).__module__ != "aflow_ops.errors":
            raise
        trace = None  # the check refuses it
    assert trace is None or trace.outcome != "infra_error", trace
    assert this.memory_info().rss - before[0] < 128 * MEGABYTE
    assert time.process_time() - before[1] < 30  # of this process's own computing
    assert len(json.dumps(str(trace))) < 100_000
    assert (await run(runtime, "return (await custom(input=problem))['response']")).answer == "42"


async def walled_interpreters(runtime: WorkflowRuntime) -> list[psutil.Process]:
    """The processes of Monty itself, at least one."""
    if walled_binary(find_monty_binary()) is None:
        pytest.skip("the kernel gives no namespaces")
    assert (await run(runtime, "return '42'")).answer == "42"
    interpreters = [process for process in psutil.Process().children(recursive=True) if process.name() == "monty"]
    assert interpreters
    return interpreters


async def test_each_interpreter_stands_in_namespaces_of_its_own(runtime: WorkflowRuntime) -> None:
    for process in await walled_interpreters(runtime):
        for kind in ("net", "pid", "ipc", "mnt", "uts"):
            assert Path(f"/proc/{process.pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()


async def test_no_interpreter_holds_the_runs_own_output(runtime: WorkflowRuntime) -> None:
    for process in await walled_interpreters(runtime):
        assert Path(f"/proc/{process.pid}/fd/2").readlink() == Path("/dev/null")


async def test_an_interpreter_costs_one_process_beside_itself(runtime: WorkflowRuntime) -> None:
    for process in await walled_interpreters(runtime):
        outside = process.parent()
        assert outside is not None and outside.ppid() == os.getpid()


async def test_who_waits_for_an_interpreter_takes_one_that_has_become_free(
    config: ExecutorConfig, sandbox: Sandbox
) -> None:
    cores = len(os.sched_getaffinity(0))
    many = 16 * cores
    this = psutil.Process()
    async with (
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, RuntimeLimits(processes=many)) as runtime,
    ):
        before = len(this.children())
        traces = await asyncio.gather(*(run(runtime, f"return '{number}'") for number in range(many)))
        assert len(this.children()) - before < many // 2
    assert [trace.answer for trace in traces] == [str(number) for number in range(many)]


def test_a_value_that_is_small_and_large_written_out_is_no_answer() -> None:
    shared: list[object] = ["a"]
    for _ in range(40):
        shared = [shared, shared]
    itself: list[object] = []
    itself.append(itself)
    for value in (shared, itself, {"a": shared}, ("x", shared), [0] * (MAX_PARTS + 1), ["x" * 10**6] * 10):
        assert not is_bounded(value)
    assert answer_text(shared) is None
    assert answer_text(itself) is None
    assert is_bounded([["a", 1, None], {"b": (2.0, {3})}])
