"""What goes back and forth between this process and one program that runs to its end."""

import fcntl
import json
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from aflow_ops.sandbox.types import Program
from aflow_ops.sandbox.worker import Worker, WorkerLostError

MAX_OUTPUT_BYTES = 64 * 1024
PIPE_BYTES = 1 << 20
# Output is read when the program has ended, and this often before: what it may print fits into the pipe.
READ_SECONDS = 0.1
F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ is there on some builds only


@dataclass(frozen=True)
class Report:
    """What the nursery says about the end of a program. The program has no part in it.

    Args:
        status (`int`): exit status, negative for a signal.
        cut (`str`, *optional*): why it was killed.
        changed (`tuple[str, ...]`): what of the worker is not as it was.
    """

    status: int
    cut: str | None
    changed: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Report | None":
        """Read a report: `S` when the program began, then JSON when it had ended. `None` without either."""
        if not has_begun(data) or not data[1:]:
            return None
        fields = json.loads(data[1:])
        return cls(int(fields["status"]), fields["cut"], tuple(fields["changed"]))

    def error(self, stderr: str, *, overflowed: bool) -> str | None:
        """Say why the program failed, as `SandboxResult.error` does."""
        if overflowed:
            return "output"
        if self.cut is not None:
            return self.cut
        if self.status == 0:
            return None
        last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
        if last.startswith("MemoryError"):
            return "memory"
        return last[:500] if last and self.status > 0 else "killed"


def has_begun(report: bytes) -> bool:
    """Whether the program began; what else stands there is why its process could not be shut off for it."""
    return report[:1] == b"S"


class Exchange:
    """One run: its pipes from the moment when it is sent to a worker.

    Args:
        worker (`Worker`): with nothing else to do.
        message (`dict`): the job.
        code (`str` or `Program`): what is run.
        body (`bytes`): goes to the program's standard input.

    Raises:
        WorkerLostError: the worker is gone.
    """

    def __init__(self, worker: Worker, message: dict[str, Any], code: str | Program, body: bytes) -> None:
        self._worker, self._body = worker, memoryview(body)
        pairs = [os.pipe() for _ in range(4)]
        self._stdin, theirs = pairs[0][1], [pairs[0][0], *(pair[1] for pair in pairs[1:])]
        self._stdout, self._stderr, self._status = (pair[0] for pair in pairs[1:])
        self._open = {self._stdin, self._stdout, self._stderr, self._status}
        self._read = {fd: bytearray() for fd in (self._stdout, self._stderr, self._status)}
        self._stopped = False
        try:
            _grow(self._stdin)
            for fd in self._open:
                os.set_blocking(fd, False)
            self._number = worker.start(message, code, theirs)
        except BaseException:
            self._close(*self._open)
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(*self._open)

    def _close(self, *fds: int) -> None:
        for fd in fds:
            self._open.discard(fd)
            os.close(fd)

    def cancel(self) -> None:
        """End the program; `finish` returns soon. May be called from another thread."""
        self._stop("cancelled")

    def _stop(self, reason: str) -> None:
        if not self._stopped:
            self._stopped = True
            try:
                self._worker.stop(self._number, reason)
            except WorkerLostError:
                return  # `finish` sees the end of the status pipe

    def finish(self, deadline: float, begun: Callable[[], None]) -> Report:
        """Carry data until the nursery has reported.

        Args:
            deadline (`float`): by `time.monotonic()`; a worker that has not reported by then hangs.
            begun (`Callable`): told when the program begins: the worker is warm and has forked it.

        Raises:
            WorkerLostError: it hangs, or ended without a report.
        """
        poller = select.poll()
        poller.register(self._status, select.POLLIN)
        if not self._feed():
            poller.register(self._stdin, select.POLLOUT)
        while (wait := deadline - time.monotonic()) > 0:
            events = poller.poll(min(wait, READ_SECONDS) * 1000)
            for fd, _ in events:
                if fd == self._stdin:
                    if self._feed():
                        poller.unregister(fd)
                elif self._collect(fd):
                    begun()
                else:
                    return self._reported()
            if not events:
                self._collect(self._stdout)
                self._collect(self._stderr)
        raise self._lost("a worker did not answer in time")

    def _reported(self) -> Report:
        report = Report.parse(bytes(self._read[self._status]))
        if report is None:
            raise self._lost("a worker ended in the middle of a job")
        return report

    def _lost(self, message: str) -> WorkerLostError:
        said = bytes(self._read[self._status])
        if has_begun(said):
            return WorkerLostError(message, started=True)
        why = said.decode("utf-8", "replace") or self._worker.last_words()
        return WorkerLostError(f"{message}, unstarted: {why}", started=False)

    def _feed(self) -> bool:
        """Write input, as much as fits; true when that was the last of it."""
        try:
            while self._body:
                self._body = self._body[os.write(self._stdin, self._body[:PIPE_BYTES]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass  # it closed its input
        self._close(self._stdin)
        return True

    def _collect(self, fd: int) -> bool:
        """Take what there is to read; false at the end."""
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return True
        self._read[fd] += chunk
        if fd != self._status and len(self._read[fd]) > MAX_OUTPUT_BYTES:
            self._stop("output")
        return bool(chunk)

    def outputs(self) -> tuple[str, str, bool]:
        """Return standard output and error of an ended program, and whether it printed more than that."""
        for fd in (self._stdout, self._stderr):
            try:
                while len(self._read[fd]) <= MAX_OUTPUT_BYTES and (chunk := os.read(fd, 1 << 16)):
                    self._read[fd] += chunk
            except BlockingIOError:
                continue  # another process still has the other end
        printed = [bytes(self._read[fd]) for fd in (self._stdout, self._stderr)]
        stdout, stderr = (data[:MAX_OUTPUT_BYTES].decode("utf-8", "replace") for data in printed)
        return stdout, stderr, max(map(len, printed)) > MAX_OUTPUT_BYTES


def _grow(fd: int) -> None:
    """Give a pipe room for a whole job."""
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        return  # the user's pipe quota is used up: slower, not wrong
