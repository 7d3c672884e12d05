"""Runs a command as a user who owns nothing, from a test that runs as root."""

import shutil
import sys
from pathlib import Path

from aflow_ops.sandbox.walls import bubblewraps

ROOT = Path(__file__).parents[2]
NOBODY = "65534"


def as_nobody(command: list[str]) -> list[str] | None:
    """Return the command that runs another one as nobody; `None` where that cannot be.

    What only root can enter and the interpreter or this repository lies in is shown to it with nothing else in it.
    """
    needed = [Path(sys.prefix), Path(sys.base_prefix), ROOT]
    closed = {parent for path in needed for parent in path.parents if not parent.stat().st_mode & 0o001}
    closed = {folder for folder in closed if not closed & set(folder.parents)}
    shown: list[str] = []
    for folder in sorted(closed):
        shown += ["--perms", "0755", "--tmpfs", str(folder)]
        inside = sorted({path for path in needed if folder in path.parents})
        for path in inside:
            for parent in sorted(set(path.parents) & {p for p in path.parents if folder in p.parents}):
                shown += ["--perms", "0755", "--dir", str(parent)]
            shown += ["--ro-bind", str(path), str(path)]
    tools, drop = bubblewraps(), shutil.which("setpriv")
    if drop is None or (shown and not tools):
        return None
    dropped = [drop, "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", *command]
    return [tools[0], "--dev-bind", "/", "/", *shown, "--", *dropped] if shown else dropped
