"""One worker as this process sees it: a nursery (`inside/nursery.py`) that is sent jobs with their descriptors."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

import psutil

from aflow_ops.sandbox.types import Program

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    # One comparison makes some thousand expressions, and sympy forgets all but the last 1,000 of each kind.
    "SYMPY_CACHE_SIZE": "10000",
}


class WorkerLostError(Exception):
    """A worker ended or hung without an answer.

    Args:
        message (`str`): what happened.
        started (`bool`): the program had begun; if not, it cannot be to blame.
    """

    def __init__(self, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.started = started


class Worker:
    """A nursery's process and the socket on which it takes jobs.

    Args:
        command (`Sequence[str]`): starts the nursery. The thread that calls this must outlive the worker: the kernel
            ends the worker with the thread.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `reap`
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=ENVIRONMENT,
                cwd="/",
                process_group=0,  # no session of its own: the kernel would schedule it apart, and slowly beside others
            )
        self._numbers = count()
        self._lock = threading.Lock()
        self._prepared: set[str] = set()
        self.fresh = True
        self.sessions = 0

    def is_ready(self, code: str | Program) -> bool:
        """Whether it can run a program at once: it has answered before, and it has the program, if that is ours."""
        return not self.fresh and (isinstance(code, str) or code.key in self._prepared)

    def start(self, message: dict[str, Any], code: str | Program, fds: Sequence[int]) -> int:
        """Send a job with its descriptors, after the program, if that is one of ours which the worker has not.

        Returns the number by which the job can be stopped.

        Raises:
            WorkerLostError: the worker is gone.
        """
        with self._lock:
            number = next(self._numbers)
            program: dict[str, Any] = {"program": None, "filter": "program"}
            if isinstance(code, Program):
                self._prepare(code)
                program = {"program": code.key, "filter": code.filter}
            self._send({**message, **program, "job": number}, fds)
        return number

    def _prepare(self, program: Program) -> None:
        if program.key in self._prepared:
            return
        with os.fdopen(os.memfd_create("program"), "w+b") as file:
            file.write(program.body)
            file.seek(0)
            self._send({"prepare": program.key}, [file.fileno()])
        self._prepared.add(program.key)

    def stop(self, number: int, reason: str) -> None:
        """Kill a job; its report names the reason as what cut it short."""
        with self._lock:
            self._send({"kill": number, "reason": reason}, ())

    def _send(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], fds)
        except OSError as error:
            raise WorkerLostError(
                f"a worker ended before its job: {error} {self.last_words()}", started=False
            ) from None

    def last_words(self) -> str:
        """The last line that the nursery itself wrote to standard error; nothing of a program's."""
        lines = os.pread(self._log.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:500] if lines else ""

    def kill(self) -> None:
        """Kill the worker and all its descendants, those in other sessions too: it adopts orphans."""
        try:
            found = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        except psutil.NoSuchProcess:
            found = []
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def reap(self) -> None:
        """Kill the worker, wait for its end and free what it held."""
        self.kill()
        self._process.wait()
        self._control.close()
        self._log.close()
