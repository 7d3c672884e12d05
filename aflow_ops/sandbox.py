"""The second ring: solution code runs in a sandboxed CPython, never in this process.

`SandlockSandbox` confines it with Landlock and seccomp: no network, no writes, reads of the interpreter's own files
only, an empty environment, and limits on memory, processes, output and time. `RlimitSandbox` has resource limits only
and is used when asked for by name.
"""

import asyncio
import os
import resource
import selectors
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import sandlock

from aflow_ops.errors import SandboxError, UsageError

MEMORY_BYTES = 512 * 2**20
MAX_PROCESSES = 24
MAX_OUTPUT_BYTES = 64 * 1024
# The program arrives on standard input, length first: an argument is limited to 128 KiB and everybody can see it.
# Reads are exact and unbuffered, so that what follows is still there for the program itself.
_BOOTSTRAP = """
import os
def _read(size):
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            raise SystemExit("input ended early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
_source = _read(int.from_bytes(_read(8), "big")).decode("utf-8", "surrogatepass")
exec(compile(_source, "<program>", "exec", dont_inherit=True), {"__name__": "__main__", "_read": _read})
"""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class SandboxResult:
    """How one program ended.

    Args:
        ok (`bool`): it exited by itself with status 0.
        stdout (`str`): standard output, cut to the sandbox's limit.
        stderr (`str`): standard error, likewise.
        error (`str`, *optional*): `None` when ok, else `"timeout"`, `"memory"`, `"output"` (it printed too much),
            `"killed"` or the last traceback line, such as `"ZeroDivisionError: division by zero"`.
        seconds (`float`): wall time.
    """

    ok: bool
    stdout: str
    stderr: str
    error: str | None
    seconds: float


class Sandbox(Protocol):
    """Runs Python programs that nobody trusts."""

    async def run(self, code: str, *, timeout: float, stdin: str = "") -> SandboxResult:
        """Run one program to its end or to its limit.

        Args:
            code (`str`): Python source, run as `__main__` with numpy and sympy importable. Its standard input is best
                read with `os.read`, exactly: the global `_read(size)` does that.
            timeout (`float`): wall-clock limit in seconds.
            stdin (`str`): its standard input.

        Raises:
            SandboxError: the sandbox itself failed; says nothing about the program.
        """
        ...


class _Process(Protocol):
    """What both kinds of child processes offer: unbuffered pipes, `kill` and `wait`."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def kill(self) -> None: ...


class _PipedSandbox:
    """Feeds a program to a fresh interpreter and collects its output, some programs at a time."""

    def __init__(self, launch: Callable[[list[str]], Any], reap: Callable[[Any], int], concurrency: int) -> None:
        self._launch, self._reap = launch, reap
        self._threads = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="sandbox")

    async def run(self, code: str, *, timeout: float, stdin: str = "") -> SandboxResult:
        """Run one program; see `Sandbox.run`."""
        source = code.encode("utf-8", "surrogatepass")
        payload = len(source).to_bytes(8, "big") + source + stdin.encode("utf-8", "surrogatepass")
        children: list[_Process] = []
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._run_twice, payload, timeout, children)
        except asyncio.CancelledError:
            for child in children:
                child.kill()
            raise

    def _run_twice(self, payload: bytes, timeout: float, children: list[_Process]) -> SandboxResult:
        """Start the child, once more if the sandbox itself fails."""
        try:
            return self._run_once(payload, timeout, children)
        except (sandlock.SandlockError, OSError, RuntimeError):
            try:
                return self._run_once(payload, timeout, children)
            except (sandlock.SandlockError, OSError, RuntimeError) as error:
                raise SandboxError(f"the sandbox failed: {type(error).__name__}: {error}") from error

    def _run_once(self, payload: bytes, timeout: float, children: list[_Process]) -> SandboxResult:
        start = time.monotonic()
        child = self._launch([sys.executable, "-I", "-B", "-c", _BOOTSTRAP])
        children.append(child)
        try:
            outputs, cut = _communicate(child, payload, start + timeout)
        except BaseException:
            child.kill()
            self._reap(child)
            raise
        if cut is not None:
            child.kill()
        status = self._reap(child)
        stdout, stderr = (part.decode("utf-8", "replace") for part in outputs)
        error = cut or _error_of(status, stderr)
        return SandboxResult(error is None, stdout, stderr, error, time.monotonic() - start)


def _communicate(child: _Process, payload: bytes, deadline: float) -> tuple[list[bytes], str | None]:
    """Write the input and read both outputs until they end, the deadline passes or too much was printed."""
    collected: dict[IO[bytes], bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    view = memoryview(payload)
    os.set_blocking(child.stdin.fileno(), False)
    cut: str | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdin, selectors.EVENT_WRITE)
        for output in collected:
            selector.register(output, selectors.EVENT_READ)
        while selector.get_map() and cut is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                cut = "timeout"
                break
            for key, _ in selector.select(remaining):
                stream: Any = key.fileobj
                if stream is child.stdin:
                    view = _write_some(stream, view)
                    if not view:
                        selector.unregister(stream)
                        stream.close()
                    continue
                chunk = os.read(stream.fileno(), 65536)
                if not chunk:
                    selector.unregister(stream)
                collected[stream] += chunk
                if len(collected[stream]) > MAX_OUTPUT_BYTES:
                    cut = "output"
    return [bytes(part[:MAX_OUTPUT_BYTES]) for part in collected.values()], cut


def _write_some(stream: IO[bytes], view: "memoryview") -> "memoryview":
    """Write what the pipe takes; nothing is left when the program has closed its input."""
    try:
        return view[os.write(stream.fileno(), view[:65536]) :]
    except BlockingIOError:
        return view
    except BrokenPipeError:
        return view[len(view) :]


def _error_of(status: int, stderr: str) -> str | None:
    if status == 0:
        return None
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    if last.startswith("MemoryError"):
        return "memory"
    return last[:500] if last and status > 0 else "killed"


class SandlockSandbox(_PipedSandbox):
    """Landlock and seccomp through `sandlock`.

    Args:
        degraded (`list`): protections that the kernel lacks and that are given up.
        concurrency (`int`, *optional*): programs at a time; the CPU count by default.
    """

    def __init__(self, degraded: list[Any] | None = None, concurrency: int | None = None) -> None:
        readable = _interpreter_files()

        def launch(command: list[str]) -> Any:
            box = sandlock.Sandbox(
                fs_readable=readable,
                fs_writable=["/dev/null"],
                max_memory=MEMORY_BYTES,
                max_processes=MAX_PROCESSES,
                clean_env=True,
                env=_ENVIRONMENT,
                no_coredump=True,
                extra_deny_syscalls=["ptrace", "process_vm_readv", "process_vm_writev"],
                allow_degraded=degraded or [],
            )
            piped = sandlock.StdioMode.PIPED
            return box.popen(command, stdin=piped, stdout=piped, stderr=piped)

        super().__init__(launch, _reap_sandlock, concurrency or os.cpu_count() or 2)


def _reap_sandlock(child: Any) -> int:
    result = child.wait(timeout=10)
    for stream in (child.stdout, child.stderr):
        stream.close()
    return -1 if result.signal > 0 else int(result.exit_code)


class RlimitSandbox(_PipedSandbox):
    """Resource limits only: the program can read files and use the network. For kernels without Landlock, on request.

    Args:
        concurrency (`int`, *optional*): programs at a time; the CPU count by default.
    """

    def __init__(self, concurrency: int | None = None) -> None:
        def launch(command: list[str]) -> Any:
            return _GroupProcess(command)

        super().__init__(launch, lambda child: int(child.reap()), concurrency or os.cpu_count() or 2)


class _GroupProcess(subprocess.Popen[bytes]):
    """A child in a session of its own, killed with everything it started."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        super().__init__(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            preexec_fn=_limit_resources,
        )

    def kill(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        status = self.wait()
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        return status


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2 * MEMORY_BYTES, 2 * MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _interpreter_files() -> list[str]:
    """Paths that Python, numpy and sympy read: the interpreter's prefixes and the system's libraries."""
    paths = {sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), str(Path(sys.executable).resolve().parent)}
    paths |= {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null"}
    # A prefix of "/usr" would open all of it, which holds nothing secret; "/" or a home folder never is one.
    return sorted(path for path in paths if path not in ("/", str(Path.home())) and Path(path).exists())


_warned: set[str] = set()


def open_sandbox(*, unsafe_subprocess: bool = False) -> Sandbox:
    """Return the strongest sandbox that this kernel offers.

    Args:
        unsafe_subprocess (`bool`): use `RlimitSandbox`, whatever the kernel offers.

    Raises:
        UsageError: the kernel has no Landlock, and `unsafe_subprocess` was not asked for.
    """
    if unsafe_subprocess:
        _warn_once("solution code runs with resource limits only (--unsafe_subprocess): it can read your files")
        return RlimitSandbox()
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
    return SandlockSandbox(degraded=missing)


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        print(f"warning: {message}", file=sys.stderr)
