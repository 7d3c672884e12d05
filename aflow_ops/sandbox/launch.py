"""The second ring: solution code runs in a sandboxed CPython, never in this process.

`open_sandbox` confines it with Landlock and seccomp: no network, no writes, reads of the interpreter's own files only,
an empty environment, and limits on memory, processes, output and time. With resource limits only when that is asked
for by name.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any, cast

import psutil
import sandlock

from aflow_ops.errors import UsageError
from aflow_ops.sandbox.warm import Launcher, Process, WarmSandbox, Warmth

# Of one program; the worker with everything it forked may have twice that.
MEMORY_BYTES = 512 * 2**20
MAX_PROCESSES = 24
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_FORBIDDEN = ["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"]


def open_sandbox(*, unsafe_subprocess: bool = False, concurrency: int | None = None) -> WarmSandbox:
    """Return the strongest sandbox that this kernel offers, an async context manager.

    Args:
        unsafe_subprocess (`bool`): resource limits only, whatever the kernel offers.
        concurrency (`int`, *optional*): programs at a time; the CPU count by default.

    Raises:
        UsageError: the kernel has no Landlock, and `unsafe_subprocess` was not asked for.
    """
    if unsafe_subprocess:
        _warn_once("solution code runs with resource limits only (--unsafe_subprocess): it can read your files")
        return WarmSandbox(Launcher(_launch_group, _reap_group), concurrency)
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
    return WarmSandbox(_sandlock_launcher(missing), concurrency)


def _command(warmth: Warmth, degraded: list[int] | None) -> list[str]:
    settings = {
        "preload": warmth.modules.split() + (["sandlock"] if degraded is not None else []),
        "warm_up": warmth.program,
        "data_bytes": MEMORY_BYTES,
        "degraded": degraded,
    }
    return [sys.executable, "-I", "-B", "-c", _nursery(), json.dumps(settings)]


@cache
def _nursery() -> str:
    return Path(__file__).with_name("nursery.py").read_text(encoding="utf-8")


def _sandlock_launcher(degraded: list[Any]) -> Launcher:
    """Landlock and seccomp through `sandlock`; `degraded` are the protections that the kernel lacks."""
    readable = _interpreter_files()

    def launch(warmth: Warmth) -> Process:
        box = sandlock.Sandbox(
            fs_readable=readable,
            fs_writable=["/dev/null"],
            max_memory=2 * MEMORY_BYTES,
            max_processes=MAX_PROCESSES,
            clean_env=True,
            env=_ENVIRONMENT,
            no_coredump=True,
            extra_deny_syscalls=_FORBIDDEN,
            allow_degraded=degraded,
        )
        piped, null = sandlock.StdioMode.PIPED, sandlock.StdioMode.NULL
        child: Process = box.popen(
            _command(warmth, [int(item) for item in degraded]), stdin=piped, stdout=piped, stderr=null
        )
        return child

    return Launcher(launch, _reap_sandlock)


def _reap_sandlock(child: Any) -> None:
    child.kill()
    child.wait(timeout=10)
    for stream in (child.stdin, child.stdout):
        stream.close()


class _GroupProcess(subprocess.Popen[bytes]):
    """A worker in a session of its own, with resource limits only."""

    def __init__(self, warmth: Warmth) -> None:
        super().__init__(
            _command(warmth, None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            preexec_fn=_limit_resources,
        )

    def kill(self) -> None:
        """Kill the worker and all its descendants, those in other sessions too: it adopts orphans."""
        try:
            found = [*psutil.Process(self.pid).children(recursive=True)] if self.poll() is None else []
        except psutil.NoSuchProcess:
            found = []
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _launch_group(warmth: Warmth) -> Process:
    process: Any = _GroupProcess(warmth)  # its pipes are there: they were asked for
    return cast(Process, process)


def _reap_group(child: Any) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        stream.close()


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY_BYTES, 4 * MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _interpreter_files() -> list[str]:
    """Paths that Python, numpy and sympy read: the interpreter's prefixes and the system's libraries."""
    paths = {sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), str(Path(sys.executable).resolve().parent)}
    paths |= {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null"}
    # A prefix of "/usr" would open all of it, which holds nothing secret; "/" or a home folder never is one.
    return sorted(path for path in paths if path not in ("/", str(Path.home())) and Path(path).exists())


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        print(f"warning: {message}", file=sys.stderr)
