"""What the processes that a run starts get to see: nothing of its keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from data.problem import ProblemView
from tests.conftest import KEY
from tests.stub_endpoint import Messages, StubEndpoint

OTHER_KEY = "correct-horse-battery-staple"
PROGRAM = "```python\nimport time\n\ndef solve():\n    time.sleep(1)\n    return 42\n```"
WORKFLOW = """\
async def workflow(problem):
    await custom(input=problem)
    return (await programmer(problem=problem))["output"]"""


class Watch:
    """Reads what all descendants of this process were given, again and again."""

    def __init__(self) -> None:
        self.seen: dict[int, str] = {}
        self.leaks: set[str] = set()

    async def __call__(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.02)

    def look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                self.seen[process.pid] = command[:4000].decode(errors="replace").replace("\0", " ")
                told = Path(f"/proc/{process.pid}/environ").read_bytes() + command
            except OSError:  # it has ended, or shows nothing to anybody but root
                continue
            if KEY.encode() in told or OTHER_KEY.encode() in told:
                self.leaks.add(self.seen[process.pid])


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    watch = Watch()
    task = asyncio.create_task(watch())
    try:
        yield watch
        watch.look()
    finally:
        task.cancel()


async def watched_run(config: ExecutorConfig, folder: Path) -> Watch:
    """Run a workflow that uses every kind of process that a run starts."""
    workflow = parse_workflow(WORKFLOW, domain="math", has_entry_point=False)
    problem = ProblemView(question="What is 6 * 7?", domain="math")
    async with (
        open_sandbox() as sandbox,
        open_executor(config, run_dir=folder) as executor,
        WorkflowRuntime(executor, sandbox, RuntimeLimits()) as runtime,
        watching() as watch,
    ):
        trace = await runtime.run(workflow, problem)
    assert trace.outcome == "ok", trace.error
    return watch


def started(watch: Watch, *names: str) -> bool:
    return all(any(name in command for command in watch.seen.values()) for name in names)


async def test_no_process_is_given_a_key(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(messages: Messages) -> str:
        return PROGRAM if "solve" in str(messages) else "42"

    stub.answer = answer
    monkeypatch.setenv("HF_TOKEN", OTHER_KEY)
    watch = await watched_run(config, tmp_path)
    assert started(watch, "monty subprocess", " -B -c ")
    assert not watch.leaks


@pytest.mark.slow
async def test_the_embedded_executor_answers_without_key_or_proxy_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    config, run_dir = ExecutorConfig(executor="local", executor_cache_dir=str(tmp_path / "cache")), tmp_path / "run"
    async with watching() as watch, open_executor(config, run_dir=run_dir) as executor:
        reply = await executor.complete([{"role": "user", "content": "Hello"}], temperature=0, max_tokens=8)
        assert reply.text
        assert reply.completion_tokens <= 8
        address = (run_dir / "executor.url").read_text()
        async with open_executor(config, run_dir=run_dir) as second:  # another process of the run joins the server
            assert str(second) == str(executor) == f"SmolLM2-135M-Instruct at {address}/v1"
    assert (run_dir / "executor.log").stat().st_size > 0
    assert not (run_dir / "executor.url").exists()
    assert started(watch, "aflow_ops.executor.embedded_server")
    assert not watch.leaks
