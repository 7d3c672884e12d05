import functools
import gc
import importlib.metadata
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox, open_sandbox
from rewards.rollout import RolloutScorer
from tests.commands import KEY
from tests.stub_endpoint import StubEndpoint

# Tests run three at a time on as few as two cores, and threads that wait for each other spin: one each is faster. Torch
# reads it when it is imported, processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A run that was started in the background ignores Ctrl-C, and so would every process that tests start and stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes depends on what else the machine does.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# At every step accelerate asks which packages there are, and the answer is parsed out of their descriptions.
importlib.metadata.metadata = functools.cache(importlib.metadata.metadata)  # type: ignore[assignment]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import without a look for garbage, and leave what the imports made out of all later ones.

    While torch and its like are imported, nearly all objects stay, and Python would spend a quarter of the time on
    going through them. Each training begins with a collection, and these are most objects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach a real account."""
    for name in list(os.environ):
        if name.startswith("OPENAI_"):
            monkeypatch.delenv(name)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with StubEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    opened = open_sandbox()
    yield opened
    opened.close()


@pytest.fixture
def config(stub: StubEndpoint, tmp_path: Path) -> ExecutorConfig:
    return ExecutorConfig(
        executor_base_url=stub.url,
        executor_cache_dir=str(tmp_path / "cache"),
        executor_max_retries=1,
        executor_timeout=10,
        executor_outage_seconds=2,
    )


@pytest.fixture
async def runtime(config: ExecutorConfig, sandbox: Sandbox) -> AsyncIterator[WorkflowRuntime]:
    limits = RuntimeLimits(timeout=10, processes=16)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as opened:
        yield opened


@pytest.fixture
def scorer(runtime: WorkflowRuntime, sandbox: Sandbox) -> RolloutScorer:
    return RolloutScorer(runtime, sandbox)
