"""The host's side of a sandbox: warm workers, one program at a time each (`nursery.py` is the worker's side)."""

import asyncio
import json
import marshal
import os
import re
import select
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import CodeType, TracebackType
from typing import IO, Any, Protocol

import sandlock

from aflow_ops.errors import SandboxError
from aflow_ops.fault_clock import FaultClock
from aflow_ops.sandbox.types import SandboxResult


@dataclass(frozen=True)
class Warmth:
    """What a worker has done before its first job.

    Args:
        modules (`str`): names of the modules that it imported.
        program (`str`): Python that it ran.
    """

    modules: str
    program: str = ""


LIGHT = Warmth(
    "ast bisect collections copy dataclasses datetime decimal fractions functools hashlib heapq io itertools json "
    "marshal math operator random re signal socket statistics string textwrap threading typing"
)
# Takes two seconds to start and 120 MB, so it is started only for programs that name one of these modules. The first
# comparison of math-verify builds its grammars.
HEAVY = Warmth(
    f"{LIGHT.modules} numpy numpy.random sympy math_verify",
    """
from math_verify import parse, verify
verify(parse("$x^2 + 2x$", parsing_timeout=None), parse("$\\frac{1}{2}$", parsing_timeout=None), timeout_seconds=None)
""",
)
_NAMES_HEAVY = re.compile(rb"\b(?:numpy|sympy|mpmath|math_verify)\b")

# Beyond the program's own limit: the nursery notices the limit itself, this is for a nursery that hangs.
GRACE_SECONDS = 5.0
# Longer than importing sympy takes on a busy machine.
START_SECONDS = 60.0


class Process(Protocol):
    """What both kinds of child processes offer: unbuffered pipes, `kill` and the reaping of what was killed."""

    stdin: IO[bytes]
    stdout: IO[bytes]

    def kill(self) -> None:
        """End it at once."""
        ...


@dataclass(frozen=True)
class Launcher:
    """How one kind of sandbox starts a worker and takes leave of it.

    Args:
        launch (`Callable`): starts the nursery and says what it shall do first.
        reap (`Callable`): kills the worker with all its descendants and frees what it held.
    """

    launch: Callable[[Warmth], Process]
    reap: Callable[[Any], None]


class _WorkerLostError(Exception):
    """A worker ended or hung without an answer."""


@dataclass
class _Lease:
    """The worker that one run is using, so that a cancellation can end it."""

    worker: Process | None = None
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class WarmSandbox:
    """Runs programs in warm workers; see `Sandbox`.

    Args:
        launcher (`Launcher`): how workers are started.
        concurrency (`int`, *optional*): programs at a time; the CPU count by default.
    """

    def __init__(self, launcher: Launcher, concurrency: int | None = None) -> None:
        self._launcher = launcher
        self._threads = ThreadPoolExecutor(max_workers=concurrency or os.cpu_count() or 2, thread_name_prefix="sandbox")
        self._idle: dict[Warmth, list[Process]] = {}
        self._busy: list[Process] = []
        self._lock = threading.Lock()
        self._closed = False

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
        with self._lock:
            idle = [worker for workers in self._idle.values() for worker in workers]
            self._idle.clear()
        for worker in idle:
            self._launcher.reap(worker)

    async def run(
        self, code: str | CodeType, *, timeout: float, stdin: str = "", faults: FaultClock | None = None
    ) -> SandboxResult:
        """Run one program; see `Sandbox.run`."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        given = stdin.encode("utf-8", "surrogatepass")
        source = b"t" + code.encode("utf-8", "surrogatepass") if isinstance(code, str) else b"c" + marshal.dumps(code)
        heavy = _NAMES_HEAVY.search(source) or _NAMES_HEAVY.search(given)
        warmth = HEAVY if heavy else LIGHT
        body = len(source).to_bytes(8, "big") + source + given
        job = struct.pack(">Qd", len(body), timeout) + body
        lease, loop = _Lease(), asyncio.get_running_loop()
        begun: asyncio.Future[Any] = loop.create_future()

        def in_thread() -> SandboxResult:
            loop.call_soon_threadsafe(begun.set_result, None)
            return self._run_twice(warmth, job, timeout, lease)

        running = loop.run_in_executor(self._threads, in_thread)
        try:
            with nullcontext() if faults is None else faults.waiting():
                await asyncio.wait({begun, running}, return_when=asyncio.FIRST_COMPLETED)
            return await running
        except asyncio.CancelledError:
            running.cancel()
            with lease.lock:
                lease.cancelled = True
                if lease.worker is not None:
                    lease.worker.kill()
            raise

    def _run_twice(self, warmth: Warmth, job: bytes, timeout: float, lease: _Lease) -> SandboxResult:
        """Run the program, in a second worker if the first one is lost."""
        for last in (False, True):
            try:
                return self._run_once(warmth, job, timeout, lease)
            except (_WorkerLostError, sandlock.SandlockError, OSError, RuntimeError) as error:
                if last or lease.cancelled or self._closed:
                    raise SandboxError(f"the sandbox failed: {type(error).__name__}: {error}") from error
        raise AssertionError("unreachable")

    def _run_once(self, warmth: Warmth, job: bytes, timeout: float, lease: _Lease) -> SandboxResult:
        worker, fresh = self._take(warmth)
        with lease.lock:
            lease.worker = worker
            if lease.cancelled:
                worker.kill()
        clean = False
        start = time.monotonic()
        try:
            report, stdout, stderr = _converse(
                worker, job, start + timeout + GRACE_SECONDS + (START_SECONDS if fresh else 0)
            )
            clean = bool(report["clean"])
        finally:
            with lease.lock:
                lease.worker = None
            self._give_back(warmth, worker, usable=clean and not self._closed)
        error = report["cut"] or _error_of(report["status"], stderr)
        return SandboxResult(error is None, stdout, stderr, error, time.monotonic() - start)

    def _take(self, warmth: Warmth) -> tuple[Process, bool]:
        """The worker used last, or a new one."""
        with self._lock:
            idle = self._idle.get(warmth)
            worker = idle.pop() if idle else None
            if worker is not None:
                self._busy.append(worker)
                return worker, False
        worker = self._launcher.launch(warmth)
        with self._lock:
            self._busy.append(worker)
            if self._closed:
                worker.kill()
        return worker, True

    def _give_back(self, warmth: Warmth, worker: Process, *, usable: bool) -> None:
        with self._lock:
            self._busy.remove(worker)
        if not usable:
            self._launcher.reap(worker)
            return
        with self._lock:
            self._idle.setdefault(warmth, []).append(worker)


def _converse(worker: Process, job: bytes, deadline: float) -> tuple[dict[str, Any], str, str]:
    """Send a job and receive its three blocks."""
    view = memoryview(job)
    fd = worker.stdin.fileno()
    os.set_blocking(fd, False)
    try:
        while view:
            _wait_for(fd, select.POLLOUT, deadline)
            view = view[os.write(fd, view[: 1 << 20]) :]
    except BrokenPipeError:
        raise _WorkerLostError("a worker ended before its job") from None
    blocks = [_read_block(worker.stdout.fileno(), deadline) for _ in range(3)]
    stdout, stderr = (block.decode("utf-8", "replace") for block in blocks[1:])
    return json.loads(blocks[0]), stdout, stderr


def _read_block(fd: int, deadline: float) -> bytes:
    return _read(fd, struct.unpack(">I", _read(fd, 4, deadline))[0], deadline)


def _read(fd: int, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        _wait_for(fd, select.POLLIN, deadline)
        chunk = os.read(fd, size - len(data))
        if not chunk:
            raise _WorkerLostError("a worker ended in the middle of a job")
        data += chunk
    return bytes(data)


def _wait_for(fd: int, event: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(fd, event)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise _WorkerLostError("a worker did not answer in time")


def _error_of(status: int, stderr: str) -> str | None:
    if status == 0:
        return None
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    if last.startswith("MemoryError"):
        return "memory"
    return last[:500] if last and status > 0 else "killed"
