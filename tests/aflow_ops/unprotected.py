"""Runs every escape where no wall of ours stands, and says in JSON which ones succeed there.

A program, and not for a bare machine: run it as `walled_in` does, where nothing that is worth anything can be written.
Each program has a parent of its own, as a nursery would be, and a process beside it that stands for the trainer.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from aflow_ops.sandbox.walls import bubblewraps
from tests.aflow_ops.escapes import CALLS, LEAKS, PROGRAMS, program

SECONDS = 30.0


def walled_in(command: list[str]) -> list[str]:
    """Return a command that runs another one with all system calls, but with nothing to harm."""
    folders = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev/shm"]
    return [bubblewraps()[0], "--unshare-all", "--cap-drop", "ALL", *folders, "--die-with-parent", "--", *command]


def said(body: Callable[[], None]) -> str:
    """What a grandchild prints."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.setpgid(0, 0)
        if os.fork() == 0:
            os.dup2(writing, 1)
            try:
                body()
            finally:
                os._exit(0)
        os.close(writing)
        os.wait()
        os._exit(0)
    os.close(writing)
    text, end = b"", time.monotonic() + SECONDS
    while select.select([reading], [], [], max(0.0, end - time.monotonic()))[0] and (part := os.read(reading, 4096)):
        text += part
        if b"ESCAPED" in text:
            break
    os.close(reading)
    with suppress(ProcessLookupError):
        os.killpg(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return text.decode()


def main() -> None:
    """Try everything, each on its own."""
    trainer = subprocess.Popen(["sleep", "600"])
    escaped: list[str] = []
    for name in [*PROGRAMS, *CALLS]:
        code = compile(program(name, trainer.pid), "<program>", "exec")
        if "ESCAPED" in said(lambda code=code: exec(code, {})):
            escaped.append(name)
    leaked = []
    for name, (leave, look) in LEAKS.items():
        code = compile(f"{leave}\nexec({look!r}, {{}})\nprint('ESCAPED', flush=True)", "<program>", "exec")
        if "ESCAPED" in said(lambda code=code: exec(code, {})):
            leaked.append(name)
    trainer.kill()
    os.kill(1, signal.SIGCONT)  # an attempt to trace it has stopped it
    print(json.dumps({"escaped": escaped, "leaked": leaked}))


if __name__ == "__main__":
    sys.exit(main())
