"""What bubblewrap leaves behind when it is killed while it starts.

Its child waits for a word that nobody will say: not until then does it ask the kernel to be ended with its parent. It
has run nothing, but it stays, and holds the pipes that it was given.
"""

from contextlib import suppress
from pathlib import Path

import psutil

from aflow_ops.sandbox.walls import CLOSED


def end_strays() -> int:
    """Kill children of ours that lost their bubblewrap, of this run and of earlier ones; return how many there were.

    One whose bubblewrap is alive is left alone, whoever started it, and so is another program's sandbox.
    """
    ended = 0
    for process in psutil.process_iter(["name", "ppid"]):
        if process.info["name"] != "bwrap":
            continue
        with suppress(psutil.Error, OSError):
            if _is_stray(process):
                process.kill()
                ended += 1
    return ended


def _is_stray(process: psutil.Process) -> bool:
    arguments = process.cmdline()
    is_ours = any(arguments[at : at + len(CLOSED)] == CLOSED for at in range(len(arguments)))
    return is_ours and _depth(process.pid) > _depth("self") and psutil.Process(process.ppid()).name() != "bwrap"


def _depth(pid: int | str) -> int:
    """In how many process namespaces it is, seen from here."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((len(line.split()) for line in lines if line.startswith("NSpid:")), 0)
