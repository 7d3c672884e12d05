"""The stub endpoint in a process of its own, for as long as something is measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def endpoint(latency: float) -> Iterator[str]:
    """Serve the stub endpoint from another process; yields its address.

    Args:
        latency (`float`): seconds before each reply.
    """
    command = [sys.executable, "-m", "scripts.benching.endpoint", str(latency)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
