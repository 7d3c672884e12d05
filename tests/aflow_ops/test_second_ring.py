"""What Monty cannot speak runs in CPython in the sandbox, with the same door, limits, deadline and record."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import psutil
import pytest

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.language.workflow import Workflow
from aflow_ops.rings.frames import MAX_KINDS, Foreign, FrameError, read_frame
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox, open_sandbox
from aflow_ops.trace import Trace
from data.problem import ProblemView
from tests.patience import PATIENCE, until
from tests.stub_endpoint import StubEndpoint

VIEW = ProblemView("What is 6 * 7?", "math")
Open = Callable[..., "AsyncIterator[WorkflowRuntime]"]


def short(body: str) -> str:
    """A workflow in short form; generators keep it out of the first ring."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"def numbers():\n    yield 1\nasync def workflow(problem):\n{lines}"


def parsed(text: str) -> Workflow:
    return parse_workflow(text, domain="math", has_entry_point=False)


def unchecked(body: str) -> Workflow:
    """A workflow as it would be if the checker had let it through."""
    source = short(body)
    return Workflow("short", source, source, ())


@pytest.fixture
def limits() -> RuntimeLimits:
    return RuntimeLimits(timeout=PATIENCE, processes=16)


@pytest.fixture
def second(config: ExecutorConfig, sandbox: Sandbox, limits: RuntimeLimits) -> object:
    @asynccontextmanager
    async def opened(interpreter: str = "auto", **changed: float) -> AsyncIterator[WorkflowRuntime]:
        async with (
            open_executor(config) as executor,
            WorkflowRuntime(executor, sandbox, replace(limits, **changed), interpreter) as runtime,  # type: ignore[arg-type]
        ):
            yield runtime

    return opened


async def run(second: Open, body: str, **changed: float) -> Trace:
    async with second(**changed) as runtime:  # type: ignore[attr-defined]
        return await runtime.run(parsed(short(body)), VIEW)


async def test_an_operators_error_can_be_caught(second: Open, stub: StubEndpoint) -> None:
    body = (
        "try:\n    await sc_ensemble(solutions=7, problem=problem)\nexcept TypeError as error:\n"
        "    return 'caught: ' + str(error)\nreturn ''"
    )
    trace = await run(second, body)
    assert trace.interpreter == "cpython"
    assert trace.answer == "caught: solutions must be a list with at least one solution, not int"
    assert [call.error is None for call in trace.calls] == [False]


async def test_operators_run_at_once_in_tasks_of_pythons_own(second: Open, stub: StubEndpoint) -> None:
    stub.latency = 0.5
    body = (
        "async with asyncio.TaskGroup() as group:\n"
        "    tasks = [group.create_task(custom(input=str(i))) for i in range(8)]\n"
        "return tasks[3].result()['response']"
    )
    trace = await run(second, body)
    assert (trace.outcome, trace.answer, trace.interpreter) == ("ok", "42", "cpython")
    assert stub.most_in_flight == len(trace.calls) == 8


async def test_a_timeout_of_the_workflows_own_cancels_the_call(second: Open, stub: StubEndpoint) -> None:
    stub.latency = PATIENCE
    body = (
        "try:\n    await asyncio.wait_for(custom(input=problem), 0.2)\nexcept asyncio.TimeoutError:\n"
        "    return 'too slow'\nreturn ''"
    )
    trace = await run(second, body)
    assert (trace.outcome, trace.answer) == ("ok", "too slow")
    assert [call.error for call in trace.calls] == ["cancelled"]


async def test_the_deadline_holds_while_it_waits(second: Open, stub: StubEndpoint) -> None:
    stub.latency = PATIENCE
    trace = await run(second, "return (await custom(input=problem))['response']", timeout=0.5)
    assert trace.outcome == "timeout"
    assert [call.error for call in trace.calls] == ["cancelled"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("while True:\n    pass\nreturn ''", "TimeoutError"),
        ("try:\n    while True:\n        pass\nexcept BaseException:\n    return 'hidden'", "TimeoutError"),
        ("return str(9 ** 9 ** 9)", "TimeoutError"),
        ("return 'a' * 8_000_000_000", "MemoryError"),
        ("x = []\nwhile True:\n    x.append('a' * 10_000_000)\nreturn ''", "MemoryError"),
        ("def f(n):\n    return f(n + 1)\nreturn f(0)", "RecursionError"),
        ("for i in range(10_000):\n    await custom(input=str(i))\nreturn ''", "RuntimeError"),
        ("await asyncio.gather(*[custom(input=str(i)) for i in range(10_000)])\nreturn ''", "RuntimeError"),
        ("return 'a' * 20_000_000", "RuntimeError"),
        ("for i in range(40):\n    await sc_ensemble(solutions=['\\0' * 40_000] * 30)\nreturn ''", "RuntimeError"),
        ("raise SystemExit(0)\nreturn ''", "SystemExit"),
    ],
)
async def test_the_limits_hold(second: Open, stub: StubEndpoint, body: str, kind: str) -> None:
    trace = await run(second, body, compute_seconds=1)
    assert trace.outcome == "policy_error"
    assert trace.error is not None
    assert trace.error.kind in (kind, "InterpreterLost"), trace.error
    assert len(trace.calls) <= 64


async def test_what_is_meant_for_a_thread_is_done_without_one(second: Open) -> None:
    body = (
        "def half(n):\n    return 84 / n\ntry:\n    await asyncio.to_thread(half, 0)\nexcept ZeroDivisionError:\n"
        "    return str(await asyncio.to_thread(half, 2))\nreturn ''"
    )
    assert (await run(second, body)).answer == "42.0"


async def test_no_workflow_has_threads_that_others_would_lack(second: Open) -> None:
    body = (
        "frame = asyncio.sys._getframe()\nwhile '_send' not in frame.f_globals:\n    frame = frame.f_back\n"
        "threading = frame.f_globals['sys'].modules['threading']\nthreading.stack_size(32768)\n"
        "try:\n    threading.Thread(target=print).start()\nexcept RuntimeError:\n    return 'none'\nreturn 'one'"
    )
    async with second() as runtime:  # type: ignore[attr-defined]
        assert (await runtime.run(unchecked(body), VIEW)).answer == "none"


FORGERIES = {
    "an operator that there is none of": """b'{"call": 1, "name": "shell", "args": [], "kwargs": {}}'""",
    "a call twice": """b'{"call": 1, "name": "custom", "args": [], "kwargs": {"input": "x"}}'""",
    "no JSON": "b'no'",
    "nested": "b'[' * 200_000",
    "another kind": """b'{"open": "/etc/passwd"}'""",
    "a flood": """b'{"cancel": 7}'""",
    "too much": """b'{"cancel": 7' + b' ' * 1_000_000 + b'}'""",
    "one that is too large": """b' ' * 20_000_000""",
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_forged_frames_end_the_run(second: Open, stub: StubEndpoint, name: str) -> None:
    body = (
        "frame = asyncio.sys._getframe()\nwhile '_send' not in frame.f_globals:\n    frame = frame.f_back\n"
        f"for _ in range(300):\n    frame.f_globals['_send']({FORGERIES[name]})\n"
        "import time\ntime.sleep(600)\nreturn '42'"
    )
    async with second() as runtime:  # type: ignore[attr-defined]
        trace = await runtime.run(unchecked(body), VIEW)
    assert trace.outcome == "policy_error"
    assert trace.error is not None
    assert trace.error.kind == "RuntimeError"


UNFIT = {
    "arguments that are none": ["Custom", {}, 7, {}],
    "names that are none": ["Custom", {}, [], [1]],
    "names in a list of lists": ["Custom", {}, [], [["a", "b"]]],
    "options that are none": ["Custom", 7, [], {}],
    "an option of another kind": ["ScEnsemble", {"vote_count": {"a": []}}, [["a"]], {"problem": "p"}],
    "an operator that is none": [["Custom"], {}, [], {}],
    "too few": ["Custom"],
    "a nest": ["Custom", {}, [[[[[[]]]]]], {"input": {"__other__": ["Thing", "t"]}}],
}


@pytest.mark.parametrize("name", UNFIT)
async def test_a_call_with_what_no_prelude_sends_is_the_workflows_fault(second: Open, name: str) -> None:
    frame = json.dumps({"call": 7, "name": "_call_operator", "args": UNFIT[name], "kwargs": {}})
    body = (
        "frame = asyncio.sys._getframe()\nwhile '_send' not in frame.f_globals:\n    frame = frame.f_back\n"
        f"frame.f_globals['_send']({frame.encode()!r})\nawait asyncio.sleep(0.3)\nreturn '42'"
    )
    async with second() as runtime:  # type: ignore[attr-defined]
        trace = await runtime.run(unchecked(body), VIEW)
    assert (trace.outcome, trace.answer) == ("ok", "42")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"7", b"[]", b'{"call": "1", "name": "custom", "args": [], "kwargs": {}}', b'{"raised": ["a"]}',
        b'{"done": 1, "raised": ["a", "b"]}', b'{"cancel": null}', b'{"done": ' + b"9" * 5000 + b"}",
        *(b'{"done": [' + unit * 100_000 + b"0]}" for unit in (b"[[]],", b"{},[],", b'{"__tuple__":[]},{},')),
        *(b'{"done": [' + b",".join([unit] * 2_000_000) + b"]}" for unit in (b"[]", b"{}", b"1")),
        b'{"done": ' + b"[" * 200 + b"]" * 200 + b"}", b'{"done": ' + b"[" * 4_000_000,
    ],
)  # fmt: skip
def test_a_frame_has_one_of_four_forms(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(data)


def test_a_value_of_another_kind_is_no_text() -> None:
    value = read_frame(json.dumps({"done": [{"__tuple__": [1]}, {"__other__": ["Thing", "t"]}]}).encode())["done"]
    assert value[0] == (1,)
    assert isinstance(value[1], Foreign)
    assert type(value[1]).__name__ == "Thing"


def test_many_values_of_other_kinds_are_of_few_classes() -> None:
    kinds = [{"__other__": [f"Thing{number}", "t"]} for number in range(50_000)]
    value = read_frame(json.dumps({"done": kinds}).encode())["done"]
    assert len({type(item) for item in value}) <= MAX_KINDS + 1
    assert {str(item) for item in value} == {"t"}


async def test_a_child_that_is_killed_runs_again_with_the_replies_that_it_has(
    config: ExecutorConfig, stub: StubEndpoint, limits: RuntimeLimits
) -> None:
    body = "first = await custom(input='a')\nsecond = await custom(input='b')\nreturn second['response']"
    async with (
        open_sandbox(concurrency=1) as sandbox,
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, limits) as runtime,
    ):
        await runtime.run(parsed(short("return 'warm'")), VIEW)
        before = set(psutil.Process().children(recursive=True))
        killed: list[int] = []

        def answer(messages: object) -> str:
            if len(stub.requests) == 2 and not killed:
                for process in set(psutil.Process().children(recursive=True)) - before:
                    killed.append(process.pid)
                    process.kill()
            return "42"

        stub.answer = answer
        trace = await runtime.run(parsed(short(body)), VIEW)
    assert killed
    assert (trace.outcome, trace.answer) == ("ok", "42")
    assert [request["messages"][-1]["content"].count("a") for request in stub.requests].count(1) <= 2
    assert sum(call.error is None for call in trace.calls) == 2


async def test_what_the_first_ring_has_paid_for_is_not_asked_again(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox, limits: RuntimeLimits
) -> None:
    # `re.sub` with a function as a value is found by Monty only when it comes to it.
    text = (
        "import re\nasync def workflow(problem):\n    found = [await custom(input='x') for _ in range(3)]\n"
        "    def double(match):\n        return match.group(0) * 2\n"
        "    text = re.sub('4', double, found[0]['response'])\n"
        "    return text + (await custom(input='y'))['response']"
    )
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        trace = await runtime.run(parsed(text), VIEW)
    assert (trace.answer, trace.interpreter) == ("44242", "cpython")
    assert len(stub.requests) == len(trace.calls) == 4
    assert trace.cost_usd == pytest.approx(sum(call.cost_usd for call in trace.calls))


async def test_without_walls_monty_is_alone_and_says_so_once(
    config: ExecutorConfig, stub: StubEndpoint, limits: RuntimeLimits, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        open_sandbox(unsafe_subprocess=True) as sandbox,
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, limits) as runtime,
    ):
        traces = [await runtime.run(parsed(short("return str(next(numbers()))")), VIEW) for _ in range(2)]
    assert [(trace.outcome, trace.interpreter) for trace in traces] == [("policy_error", "monty")] * 2
    assert capsys.readouterr().err.count("Monty alone") == 1


def below(workers: list[psutil.Process]) -> set[psutil.Process]:
    """What runs in workers; one that has ended has nothing."""
    found: set[psutil.Process] = set()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            found.update(worker.children(recursive=True))
    return found


async def test_runs_that_are_cancelled_leave_no_child(second: Open, stub: StubEndpoint) -> None:
    stub.latency = PATIENCE
    async with second() as runtime:  # type: ignore[attr-defined]
        await runtime.run(parsed(short("return 'warm'")), VIEW)
        workers = psutil.Process().children()  # a busy machine may replace one meanwhile
        before = below(workers)
        bodies = [f"return (await custom(input='{number}'))['response']" for number in range(4)]
        tasks = [asyncio.ensure_future(runtime.run(parsed(short(body)), VIEW)) for body in bodies]
        await until(lambda: stub.in_flight == 4)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not below(workers) - before)
