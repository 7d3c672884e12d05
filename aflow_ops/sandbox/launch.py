"""The second ring: solution code runs in a sandboxed CPython, never in this process.

`open_sandbox` puts it behind three walls. The outer one are namespaces (`walls.py`): no process, file or interface of
the user's is there to be named. The second is Landlock: reads of the interpreter's own files only. The third is a list
of the system calls that are allowed (`filters.py`). Limits on memory, threads, open files, output and time add up; see
aflow_ops/README.md. With resource limits only when that is asked for by name.
"""

import ast
import base64
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import sandlock

from aflow_ops.errors import UsageError
from aflow_ops.sandbox import filters
from aflow_ops.sandbox.joined import joined
from aflow_ops.sandbox.shown import shown_files
from aflow_ops.sandbox.walls import Walls, find_walls
from aflow_ops.sandbox.warm import WarmSandbox, Warmth
from aflow_ops.sandbox.worker import Worker

# Of one program: private memory, and how much more than the warm interpreter it may map on top of that.
MEMORY_BYTES = 512 * 2**20
SLACK_BYTES = 256 * 2**20
INSIDE_FILES = ("confinement", "modules", "child", "nursery")


def open_sandbox(
    *, unsafe_subprocess: bool = False, concurrency: int | None = None, namespaces: bool = True
) -> WarmSandbox:
    """Return the strongest sandbox that this machine offers, an async context manager.

    Args:
        unsafe_subprocess (`bool`): resource limits only, whatever the kernel offers.
        concurrency (`int`, *optional*): programs at a time; the CPU count by default.
        namespaces (`bool`): use them where the kernel gives them; without them to see what the other walls hold.

    Raises:
        UsageError: the kernel has no Landlock or libseccomp is not installed, and `unsafe_subprocess` was not asked
            for.
    """
    _nursery()  # here and not where workers are started: threads that parse at once spoil each other's parsing (3.11)
    if unsafe_subprocess:
        _warn_once("solution code runs with resource limits only (--unsafe_subprocess): it can read your files")
        return WarmSandbox(lambda warmth: _launch(warmth, Walls(), None, {}), concurrency, confined=False)
    degraded = _missing_protections()
    kinds: tuple[Literal["program", "single", "forking"], ...] = ("program", "single", "forking")
    compiled: dict[str, str] = {kind: base64.b64encode(filters.compile_filter(kind)).decode() for kind in kinds}
    walls, missing = find_walls(namespaces=namespaces)
    if missing is not None and namespaces:
        _warn_once(f"the sandbox goes without {missing}; aflow_ops/README.md says what that leaves open")
    return WarmSandbox(lambda warmth: _launch(warmth, walls, degraded, compiled), concurrency)


def _missing_protections() -> list[int]:
    """The protections of Landlock that the kernel is too old for."""
    version = sandlock.landlock_abi_version()
    if version < 1:
        raise UsageError(
            "this kernel has no Landlock, so code written by models cannot be confined. Use a kernel from 5.13 on, or "
            "accept resource limits only with --unsafe_subprocess"
        )
    needed = {
        2: [sandlock.Protection.FS_REFER],
        3: [sandlock.Protection.FS_TRUNCATE],
        4: [sandlock.Protection.NET_TCP],
        5: [sandlock.Protection.FS_IOCTL_DEV],
        6: [sandlock.Protection.SIGNAL_SCOPE, sandlock.Protection.ABSTRACT_UNIX_SOCKET_SCOPE],
    }
    missing = [protection for abi, group in needed.items() if abi > version for protection in group]
    if missing:
        names = ", ".join(protection.name for protection in missing)
        _warn_once(f"this kernel (Landlock ABI {version}) cannot enforce {names}; the sandbox goes without")
    return [int(protection) for protection in missing]


def _launch(warmth: Warmth, walls: Walls, degraded: list[int] | None, compiled: dict[str, str]) -> Worker:
    settings: dict[str, Any] = {
        "preload": warmth.split() + (["sandlock"] if degraded is not None else []),
        "data_bytes": MEMORY_BYTES,
        "slack_bytes": SLACK_BYTES,
        "threads": walls.max_tasks() if degraded is not None else None,
        "degraded": degraded,
        "filters": compiled,
        "self": filters.SELF,
        "readable": [*shown_files().files(), "/dev/urandom", "/dev/null"],
        "user": walls.user(),
        "enters_closed": walls.enters_closed,
        "contained": walls.bwrap is not None,
    }
    # Isolated but for our own environment, which fixes the order of sets: "-I" would ignore that too.
    return Worker(walls.command([sys.executable, "-P", "-s", "-B", "-c", _nursery(), json.dumps(settings)]))


@cache
def _nursery() -> str:
    return ast.unparse(joined(Path(__file__).with_name("inside"), INSIDE_FILES))


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        print(f"warning: {message}", file=sys.stderr)
