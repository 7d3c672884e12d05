"""The host's side of a sandbox: warm workers that run one program at a time, or many conversations."""

import asyncio
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import sandlock

from aflow_ops.errors import SandboxError
from aflow_ops.fault_clock import FaultClock
from aflow_ops.sandbox.exchange import Exchange, Report
from aflow_ops.sandbox.session import ChannelSession
from aflow_ops.sandbox.types import Counts, Program, SandboxResult
from aflow_ops.sandbox.worker import Worker, WorkerLostError

# Names of the modules that a worker imports before its first job.
Warmth = str
LIGHT = (
    "ast asyncio bisect collections copy dataclasses datetime decimal fractions functools hashlib heapq io itertools "
    "json marshal math operator random re signal socket statistics string textwrap threading typing"
)
# Takes two seconds to start and 120 MB, so it is started only for programs that name one of these modules.
HEAVY = f"{LIGHT} numpy numpy.random sympy math_verify"
HEAVY_MODULES = frozenset({"numpy", "sympy", "mpmath", "math_verify"})
_NAMES_HEAVY = re.compile(rb"\b(?:numpy|sympy|mpmath|math_verify)\b")

# Beyond the program's own limit: the nursery notices the limit itself, this is for a nursery that hangs.
GRACE_SECONDS = 5.0
# Longer than importing sympy, or the body of a program of ours, takes on a busy machine.
START_SECONDS = 60.0
# Conversations that one worker serves before another one is started, up to the sandbox's concurrency.
SESSIONS_PER_WORKER = 64


@dataclass
class _Lease:
    """The run that one call is waiting for, so that a cancellation can end it."""

    exchange: Exchange | None = None
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def cancel(self) -> None:
        """End what runs, and what would begin."""
        with self.lock:
            self.cancelled = True
            if self.exchange is not None:
                self.exchange.cancel()


class WarmSandbox:
    """Runs programs in warm workers; see `Sandbox`.

    Args:
        launch (`Callable`): starts a worker and says what it shall do first.
        concurrency (`int`, *optional*): programs at a time; the CPU count by default.
        confined (`bool`): whether the workers stand behind walls.
    """

    def __init__(
        self, launch: Callable[[Warmth], Worker], concurrency: int | None = None, *, confined: bool = True
    ) -> None:
        self.confined = confined
        self._launch = launch
        self._concurrency = concurrency or os.cpu_count() or 2
        self._threads = ThreadPoolExecutor(max_workers=self._concurrency, thread_name_prefix="sandbox")
        # One thread starts all workers, and lives as long as they do: the kernel ends them with it.
        self._launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-launcher")
        self._idle: dict[Warmth, list[Worker]] = {}
        self._busy: list[Worker] = []
        self._shared: dict[Warmth, list[Worker]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.counts = Counts()

    async def __aenter__(self) -> "WarmSandbox":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End all workers, with the programs that they run."""
        self._closed = True
        with self._lock:
            for worker in self._busy:
                worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._launcher.shutdown(wait=True, cancel_futures=True)  # a worker that is being started is one of those left
        with self._lock:
            left = [worker for pool in (self._idle, self._shared) for workers in pool.values() for worker in workers]
            left += self._busy
            for pool in (self._idle, self._shared):
                pool.clear()
            self._busy.clear()
        for worker in left:
            worker.reap()

    async def run(
        self,
        code: str | Program,
        *,
        timeout: float,
        stdin: str = "",
        cpu_seconds: float | None = None,
        faults: FaultClock | None = None,
        modules: Collection[str] | None = None,
    ) -> SandboxResult:
        """Run one program; see `Sandbox.run`."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        body = _framed(code) + stdin.encode("utf-8", "surrogatepass")
        heavy = bool(_NAMES_HEAVY.search(body)) if modules is None else not HEAVY_MODULES.isdisjoint(modules)
        message = {"kind": "run", "seconds": timeout, "cpu_seconds": cpu_seconds}
        lease, loop = _Lease(), asyncio.get_running_loop()
        begun: asyncio.Future[Any] = loop.create_future()

        def mark() -> None:
            if not begun.done():
                begun.set_result(None)

        def begin() -> None:
            loop.call_soon_threadsafe(mark)

        def in_thread() -> SandboxResult:
            return self._run_twice(HEAVY if heavy else LIGHT, message, code, body, lease, begin)

        running = loop.run_in_executor(self._threads, in_thread)
        try:
            with nullcontext() if faults is None else faults.waiting():
                await asyncio.wait({begun, running}, return_when=asyncio.FIRST_COMPLETED)
            return await running
        except asyncio.CancelledError:
            running.cancel()
            lease.cancel()
            raise

    def _run_twice(
        self,
        warmth: Warmth,
        message: dict[str, Any],
        code: str | Program,
        body: bytes,
        lease: _Lease,
        begin: Callable[[], None],
    ) -> SandboxResult:
        """Run the program; alone in a worker of its own if the first one is lost.

        A worker that is lost before the program began is our failure. One that is lost twice while the same program
        runs is the program's: else it could hide a failure of its own behind one of ours.
        """
        start, begun = time.monotonic(), 0
        for attempt in range(3):
            try:
                return self._run_once(warmth, message, code, body, lease, begin, new=attempt > 0)
            except (WorkerLostError, sandlock.SandlockError, OSError, RuntimeError) as error:
                begun += isinstance(error, WorkerLostError) and error.started
                if lease.cancelled or self._closed or attempt - begun >= 1:
                    raise SandboxError(f"the sandbox failed: {type(error).__name__}: {error}") from error
                if begun == 2:
                    return SandboxResult(False, "", "", "lost", time.monotonic() - start)
        raise SandboxError("the sandbox failed three times")

    def _run_once(
        self,
        warmth: Warmth,
        message: dict[str, Any],
        code: str | Program,
        body: bytes,
        lease: _Lease,
        begin: Callable[[], None],
        *,
        new: bool,
    ) -> SandboxResult:
        worker = self._take(warmth, new=new)
        start = time.monotonic()
        limit = start + message["seconds"] + GRACE_SECONDS + (0 if worker.is_ready(code) else START_SECONDS)
        report: Report | None = None
        try:
            with Exchange(worker, message, code, body) as exchange:
                with lease.lock:
                    lease.exchange = exchange
                    if lease.cancelled:
                        exchange.cancel()
                report = exchange.finish(limit, begin)
                stdout, stderr, overflowed = exchange.outputs()
        finally:
            with lease.lock:
                lease.exchange = None
            self._give_back(warmth, worker, usable=report is not None and not report.changed)
        error = report.error(stderr, overflowed=overflowed)
        return SandboxResult(error is None, stdout, stderr, error, time.monotonic() - start)

    def _take(self, warmth: Warmth, *, new: bool = False) -> Worker:
        """The worker used last, or a new one."""
        with self._lock:
            idle = self._idle.get(warmth)
            worker = idle.pop() if idle and not new else None
            if worker is not None:
                self._busy.append(worker)
        if worker is None:
            worker = self._launcher.submit(self._launch, warmth).result()
            with self._lock:
                self._busy.append(worker)
                if self._closed:
                    worker.kill()
        with self._lock:
            self.counts.programs += 1
        return worker

    def _give_back(self, warmth: Warmth, worker: Worker, *, usable: bool) -> None:
        worker.fresh = False
        with self._lock:
            self._busy.remove(worker)
            if usable and not self._closed:
                self._idle.setdefault(warmth, []).append(worker)
                return
            self.counts.replaced += not self._closed
        worker.reap()

    @asynccontextmanager
    async def converse(
        self,
        code: str | Program,
        *,
        timeout: float,
        cpu_seconds: float | None = None,
        memory_bytes: int | None = None,
        modules: Collection[str] = (),
        alone: bool = False,
    ) -> AsyncIterator[ChannelSession]:
        """Run a program that exchanges messages; see `Sandbox.converse`."""
        warmth = LIGHT if HEAVY_MODULES.isdisjoint(modules) else HEAVY
        message = {
            "kind": "session",
            "seconds": timeout,
            "cpu_seconds": cpu_seconds,
            "memory_bytes": memory_bytes,
        }
        worker = await self._join(warmth, alone)
        session: ChannelSession | None = None
        try:
            try:
                session = await self._session(worker, message, code, timeout)
            except WorkerLostError as error:
                if error.started:
                    raise
                # It had ended while it was idle, so nothing of this program ran in it.
                await asyncio.to_thread(self._leave, warmth, worker, usable=False)
                worker = await self._join(warmth, alone)
                session = await self._session(worker, message, code, timeout)
            yield session
        except (WorkerLostError, OSError) as error:
            raise SandboxError(f"the sandbox failed: {error}") from error
        finally:
            usable = session is not None and await session.close()
            await asyncio.to_thread(self._leave, warmth, worker, usable)

    async def _session(
        self, worker: Worker, message: dict[str, Any], code: str | Program, timeout: float
    ) -> ChannelSession:
        grace = GRACE_SECONDS + (0 if worker.is_ready(code) else START_SECONDS)
        return await ChannelSession.start(worker, message, code, _framed(code), time.monotonic() + timeout + grace)

    async def _join(self, warmth: Warmth, alone: bool) -> Worker:
        """The shared worker with the fewest conversations, or a new one: while all are full, and for one alone."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        worker = None if alone else self._shared_worker(warmth, launching=False)
        if worker is None:
            make = self._lone_worker if alone else partial(self._shared_worker, launching=True)
            launching = self._launcher.submit(make, warmth)
            try:
                worker = await asyncio.wrap_future(launching)
            except asyncio.CancelledError:
                launching.add_done_callback(partial(self._unwanted, warmth))
                raise
        assert worker is not None
        return worker

    def _unwanted(self, warmth: Warmth, launching: "Future[Worker | None]") -> None:
        """Take leave of a worker whose conversation was cancelled while it was started."""
        if not launching.cancelled() and launching.exception() is None and (worker := launching.result()) is not None:
            self._leave(warmth, worker, usable=True)

    def _launched(self, warmth: Warmth) -> Worker:
        try:
            return self._launch(warmth)
        except (sandlock.SandlockError, OSError, RuntimeError) as error:
            raise SandboxError(f"the sandbox failed: {type(error).__name__}: {error}") from error

    def _lone_worker(self, warmth: Warmth) -> Worker:
        worker = self._launched(warmth)
        with self._lock:
            worker.sessions = 1
            self._busy.append(worker)
            self.counts.programs += 1
        return worker

    def _shared_worker(self, warmth: Warmth, *, launching: bool) -> Worker | None:
        with self._lock:
            workers = self._shared.setdefault(warmth, [])
            least = min(workers, key=lambda worker: worker.sessions, default=None)
            if least is None or (least.sessions >= SESSIONS_PER_WORKER and len(workers) < self._concurrency):
                if not launching:
                    return None
                least = self._launched(warmth)
                workers.append(least)
            least.sessions += 1
            self.counts.programs += 1
            return least

    def _leave(self, warmth: Warmth, worker: Worker, usable: bool) -> None:
        """Take leave of a shared worker: one that is no longer as it was ends with its last conversation."""
        worker.fresh = False
        with self._lock:
            worker.sessions -= 1
            shared = self._shared.get(warmth, [])
            if worker in self._busy:
                self._busy.remove(worker)
            elif not usable and worker in shared:
                shared.remove(worker)
                self.counts.replaced += 1
            done = worker.sessions == 0 and worker not in shared and not self._closed
        if done:
            worker.reap()


def _framed(code: str | Program) -> bytes:
    """A program's text after its length, as a child takes it; nothing of one that the worker has."""
    if isinstance(code, Program):
        return b""
    text = code.encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "big") + text
