"""The program inside the sandbox: a warm interpreter that forks a child for each job. Executed, not imported.

Starting an interpreter and importing sympy takes a second, forking one that has done so takes milliseconds. A child
starts with the state that the nursery had before its first job, so nothing of one program reaches the next.

`argv[1]`: JSON, see `Settings` in `launch.py`.

A job is one message on the socket that is our standard input: JSON `{"job", "kind", "seconds", "cpu_seconds",
"memory_bytes", "program", "filter"}` with descriptors. Of a run: standard input, output and error, and the status pipe.
Of a session: the channel and the status pipe. The child reads its program from its standard input or channel, after its
length: the nursery never holds what is secret to a later job. A program of ours is named by `program` instead: a
message `{"prepare": program}` brought it, with a descriptor to read its code from, and the nursery has run its body.
No program holds the status pipe: its child writes `S` when the walls stand, before it takes the program up, or why they
do not, so that what goes wrong without that was not the program's doing; when it has ended the nursery writes JSON
`{"status", "cut", "changed"}`.
`changed` names what is not as it was when the nursery started, or `"processes"` when one was left behind; whoever reads
that ends this worker.
A message `{"kill": job, "reason"}` ends a job, and so does closing the other end of its status pipe.
"""

import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aflow_ops.sandbox.inside.child import Prepared, be_the_child
from aflow_ops.sandbox.inside.confinement import Filter, bytes_by, enclose
from aflow_ops.sandbox.inside.modules import Listed

# How long a process that is killed may take to be gone, on a busy machine too.
LINGER_SECONDS = 1.0
LIMITS = [value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_")]


class Job:
    """One child, from its start to its end or its limit."""

    def __init__(
        self, settings: dict[str, Any], message: dict[str, Any], fds: list[int], prepared: Prepared | None
    ) -> None:
        self.name = message["job"]
        self.deadline = time.monotonic() + message["seconds"]
        self.cut: str | None = None
        *given, self.status = fds
        self.pid = os.fork()
        if self.pid == 0:
            be_the_child(settings, message, given, self.status, prepared)
        for fd in given:
            os.close(fd)
        self.ended = os.pidfd_open(self.pid)

    def stop(self, reason: str) -> None:
        """Kill the child, once."""
        if self.cut is None:
            self.cut = reason
            os.kill(self.pid, signal.SIGKILL)

    def end(self, changes: Callable[[], list[str]]) -> None:
        """Reap the child and report."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.ended)
        with suppress(BrokenPipeError):  # nobody asks any more
            os.write(self.status, json.dumps({"status": status, "cut": self.cut, "changed": changes()}).encode())
        os.close(self.status)


class Nursery:
    """Serves jobs, several at a time if asked to, until the socket's other end is closed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.control = socket.socket(fileno=os.dup(0))
        self.jobs: list[Job] = []
        self.prepared: dict[str, Prepared] = {}
        self.poller = select.poll()
        self.poller.register(self.control, select.POLLIN)
        self.before = state()
        self.lowest = lowest_free()

    def serve(self) -> None:
        """Wait for jobs, for their ends and for their limits."""
        while True:
            now = time.monotonic()
            for job in self.jobs:
                if job.deadline <= now:
                    job.stop("timeout")
            limits = [job.deadline - now for job in self.jobs if job.cut is None]
            events = {fd for fd, _ in self.poller.poll(min(limits) * 1000 + 1 if limits else None)}
            for job in list(self.jobs):
                if job.status in events:
                    job.stop("abandoned")
                    self.poller.unregister(job.status)
                if job.ended in events:
                    self.finish(job)
            if self.control.fileno() in events and not self.receive():
                return

    def finish(self, job: Job) -> None:
        """Take leave of a job whose child has ended."""
        self.poller.unregister(job.ended)
        try:
            self.poller.unregister(job.status)
        except KeyError:
            pass  # abandoned
        self.jobs.remove(job)
        job.end(self.changes)

    def receive(self) -> bool:
        """Take one message; false when there is nobody left to send one."""
        data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, 4)
        if not data:
            return False
        message = json.loads(data)
        if "kill" in message:
            for job in self.jobs:
                if job.name == message["kill"]:
                    job.stop(message["reason"])
            return True
        if "prepare" in message:
            self.prepared[message["prepare"]] = Prepared(fds[0])
            settle(self.settings)
            return True
        job = Job(self.settings, message, fds, self.prepared.get(message["program"]))
        self.jobs.append(job)
        self.poller.register(job.ended, select.POLLIN)
        self.poller.register(job.status, 0)  # only its end: there is nobody left to answer
        return True

    def changes(self) -> list[str]:
        """Name what is not as it was."""
        found = [name for name, value in state().items() if value != self.before[name]]
        if not self.jobs:
            if not all_gone():
                found.append("processes")
            elif lowest_free() > self.lowest + 2:  # the last job's own two are still open
                found.append("descriptors")
        return found


def state() -> dict[str, object]:
    """What children inherit from this process, but for its memory: nobody else can write to that."""
    scheduling = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.getpriority(os.PRIO_PROCESS, 0)
    return {
        "limits": [resource.getrlimit(which) for which in LIMITS],
        "scheduling": scheduling,
        "affinity": os.sched_getaffinity(0),
        "signals": (
            signal.pthread_sigmask(signal.SIG_BLOCK, []),
            signal.getitimer(signal.ITIMER_REAL),
        ),
        "folder": os.getcwd(),
        "users": (os.getresuid(), os.getresgid(), os.getpgrp()),
        "environment": dict(os.environ),
    }


def lowest_free() -> int:
    """The number that the next descriptor gets."""
    fd = os.dup(0)
    os.close(fd)
    return fd


def all_gone() -> bool:
    """Reap orphans; whether no descendant is left after a short while."""
    deadline = time.monotonic() + LINGER_SECONDS
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)


def settle(settings: dict[str, Any]) -> None:
    """Take what is loaded for what every child starts with.

    Its random numbers too: an answer that is graded twice gets the same grade.
    """
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed(0)
    gc.collect()
    gc.freeze()  # children share these pages as long as nobody writes to them
    settings.update(mapped=bytes_by(resource.RLIMIT_AS), private=bytes_by(resource.RLIMIT_DATA))


def is_abandoned(control: int) -> bool:
    """Whether the other end of the control socket is closed: whoever started this process has ended."""
    poller = select.poll()
    poller.register(control, 0)
    return bool(poller.poll(0))


def main() -> None:
    """Warm up, then serve jobs until nobody asks for any."""
    settings = json.loads(sys.argv[1])
    # Modules ask for their locks and random numbers to be made anew in a child: that takes longer than the fork, and
    # here is one thread, and every child starts with the same numbers.
    os.register_at_fork = lambda **hooks: None
    if settings["degraded"] is not None:
        Listed(settings["readable"]).install()
    enclose(settings)
    for name in settings["preload"]:
        if is_abandoned(0):  # the kernel tells only who has asked by then, and numpy takes a while
            return
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # an optional package: the program that wants it will say so
    sys.stderr.flush()  # what is left in a buffer, every child would print
    settings["filters"] = {name: Filter(text, settings["self"]) for name, text in settings["filters"].items()}
    settle(settings)
    Nursery(settings).serve()


if __name__ == "__main__":
    main()
