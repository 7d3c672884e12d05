"""The second ring: CPython in the sandbox, for workflows that the first one cannot speak.

The sandbox's walls are what holds the code; here is the door. The child (`child.py`) may send what it likes: every
frame is checked, and there are only so many of them, of only so many bytes. An operator that it asks for is the same
call, with the same limits and the same record, as one from the first ring.
"""

import asyncio
import json
from contextlib import AsyncExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from aflow_ops.errors import InfraError, SandboxError
from aflow_ops.language.bounds import INSIDE
from aflow_ops.language.imports import ALLOWED_MODULES, PARTS
from aflow_ops.rings.calls import HostFunction, Run
from aflow_ops.rings.ending import MAX_LOST_LIMITS, Ending, within_deadline
from aflow_ops.rings.frames import MAX_FRAME_BYTES, MAX_SENT_BYTES, FrameError, read_frame, written
from aflow_ops.rings.limits import RuntimeLimits
from aflow_ops.sandbox import Program, Sandbox, Session
from aflow_ops.trace import TraceError

_READY = b'{"ready": true}'


class SecondRing:
    """Runs workflows as conversations with the sandbox.

    Args:
        sandbox (`Sandbox`): one that confines what it runs.
        limits (`RuntimeLimits`): limits of each run.
    """

    def __init__(self, sandbox: Sandbox, limits: RuntimeLimits) -> None:
        self._sandbox, self._limits = sandbox, limits
        self._free = asyncio.Semaphore(limits.processes)

    async def run(self, run: Run, program: str) -> Ending:
        """Run a program; one whose process is lost runs again, alone, with the replies it has.

        Args:
            run (`Run`): its calls.
            program (`str`): of `lower_workflow`.

        Raises:
            SandboxError: no worker could be started.
        """
        run.interpreter = "cpython"
        try:
            ending = await self._run_once(run, program, alone=False)
            if ending.kind != "lost":
                return ending
        except SandboxError:
            if run.infra_error is not None:
                raise
        run.start_over("cpython")
        return await self._run_once(run, program, alone=True)

    async def _run_once(self, run: Run, program: str, *, alone: bool) -> Ending:
        async with AsyncExitStack() as stack:
            # Where the run has begun in the first ring, the start of this one is no time of its own.
            with run.faults.waiting() if run.started else nullcontext():
                await stack.enter_async_context(self._free)
                session = await stack.enter_async_context(self._conversation(alone))
                ready = await session.receive()
            if ready != _READY:
                raise SandboxError("a worker ended before a workflow began")
            run.begin()
            conversation = _Conversation(run, session)
            stack.push_async_callback(conversation.close)
            try:
                ending: Ending = await within_deadline(run, conversation.hold(self._job(run, program)))
                return ending
            except TimeoutError:
                return Ending("timeout")

    def _conversation(self, alone: bool) -> Any:
        return self._sandbox.converse(
            _child(),
            # The deadline is kept here; this is for a child that we no longer listen to.
            timeout=self._limits.timeout * (MAX_LOST_LIMITS + 2),
            cpu_seconds=self._limits.compute_seconds + 1,
            memory_bytes=self._limits.memory_bytes,
            alone=alone,
        )

    def _job(self, run: Run, program: str) -> bytes:
        return json.dumps(
            {
                "source": program,
                "inputs": {"_problem": run.problem.text, "_entry_point": run.problem.entry_point or ""},
                "functions": list(run.host_functions()),
                "modules": sorted(ALLOWED_MODULES),
                "parts": {module: sorted(names) for module, names in PARTS.items()},
                "inside": sorted(INSIDE),
                "limits": {
                    "compute_seconds": self._limits.compute_seconds,
                    "recursion_depth": self._limits.recursion_depth,
                    "argument_chars": self._limits.argument_chars,
                },
            }
        ).encode()


class _Conversation:
    """One child: its frames, and the operator calls that it waits for."""

    def __init__(self, run: Run, session: Session) -> None:
        self._run, self._session = run, session
        self._functions: dict[str, HostFunction] = run.host_functions()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._frames = self._bytes = 0

    async def hold(self, job: bytes) -> Ending:
        """Send the job and serve the child until it has ended, or has broken off in one way or another."""
        await self._session.send(job)
        while (data := await self._received()) is not None:
            try:
                self._bound(data)
                frame = read_frame(data)
                if "done" in frame:
                    return Ending("returned", frame["done"])
                if "raised" in frame:
                    return Ending("raised", error=TraceError(*frame["raised"]))
                self._serve(frame)
            except FrameError as error:
                return Ending("raised", error=TraceError("RuntimeError", str(error)))
        return await self._broken_off()

    async def _received(self) -> bytes | None:
        """The next frame; `None` when the child is gone, or when a failure of ours has decided the run."""
        receiving = asyncio.ensure_future(self._session.receive())
        try:
            while not receiving.done() and self._run.infra_error is None:
                await asyncio.wait([receiving, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
                for number in [number for number, task in self._tasks.items() if task.done()]:
                    if not (task := self._tasks.pop(number)).cancelled():
                        task.result()
            return receiving.result() if self._run.infra_error is None else None
        finally:
            receiving.cancel()

    def _bound(self, data: bytes) -> None:
        self._frames, self._bytes = self._frames + 1, self._bytes + len(data)
        if self._frames > self._run.limits.exchanges:
            raise FrameError(f"more than {self._run.limits.exchanges} exchanges")
        if len(data) > MAX_FRAME_BYTES or self._bytes > MAX_SENT_BYTES:
            raise FrameError("too much text for the operators")

    def _serve(self, frame: dict[str, Any]) -> None:
        if "cancel" in frame:
            if frame["cancel"] in self._tasks:
                self._tasks[frame["cancel"]].cancel()
            return
        number, function = frame["call"], self._functions.get(frame["name"])
        if function is None or number in self._tasks:
            raise FrameError(f"no such operator: {frame['name'][:100]!r}")
        self._tasks[number] = asyncio.ensure_future(self._answer(number, function, frame["args"], frame["kwargs"]))

    async def _answer(self, number: int, function: HostFunction, args: list[Any], kwargs: dict[str, Any]) -> None:
        try:
            answer = {"call": number, "result": await function(*args, **kwargs)}
        except InfraError:
            return  # nothing that the workflow could make of it would count
        except Exception as error:  # noqa: BLE001 - whatever the child's frame led to, it is the child's
            answer = {"call": number, "error": [type(error).__name__, str(error)]}
        await self._session.send(written(answer))

    async def _broken_off(self) -> Ending:
        """How a child ended that did not say so."""
        if self._run.infra_error is not None:
            return Ending("raised", error=TraceError("InfraError", str(self._run.infra_error)), final=True)
        result = await self._session.result()
        if result.error == "memory":
            return Ending("raised", error=TraceError("MemoryError", "more memory than it may have"))
        if result.error == "output":
            return Ending("raised", error=TraceError("RuntimeError", "too much text for the operators"))
        if result.error in ("killed", "lost"):
            return Ending("lost", error=TraceError("InterpreterLost", "its process was killed"))
        return Ending("raised", error=TraceError("RuntimeError", result.error or "it ended without an answer"))

    async def close(self) -> None:
        """Cancel what is in flight."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._run.cancel_calls()


@cache
def _child() -> Program:
    path = Path(__file__).with_name("child.py")
    code = compile(path.read_text(encoding="utf-8"), "<second ring>", "exec", dont_inherit=True)
    return Program(code, threads=False)  # many workflows share a worker, and none may use up its threads
