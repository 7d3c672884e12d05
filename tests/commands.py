"""Commands as a user runs them: in a process of their own, or, for most tests, in this one.

A start costs a second or two of imports. What a command says and leaves does not depend on whose process it is; that it
starts as a file, and how it ends by a signal or on a full disk, is tried in real processes.
"""

import importlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from recipes.run.command import run_command
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]
KEY = "sk-test-0123456789abcdefghij"

Done = subprocess.CompletedProcess[str]


def run(
    script: str,
    *arguments: object,
    key: str | None = KEY,
    stdin: str = "",
    cwd: Path = ROOT,
    **environment: str,
) -> Done:
    """Run a command in this process, as `run_process` does in another."""
    command = [str(ROOT / script), *map(str, arguments)]
    main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
    out, err = io.StringIO(), io.StringIO()
    with (
        _started(command, stdin, cwd),
        patch.dict(os.environ, _environment(key, environment), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code = run_command(main)
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Done(command, code, out.getvalue(), err.getvalue())


def run_process(
    script: str,
    *arguments: object,
    key: str | None = KEY,
    stdin: str = "",
    cwd: Path = ROOT,
    patience: float = PATIENCE,
    **environment: str,
) -> Done:
    """Run a command in a process of its own; `patience` are the seconds until it counts as hanging."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        env=_environment(key, environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
        cwd=cwd,
    )


def fails(done: Done, code: int, *words: str) -> None:
    """It failed with this code and one clear message."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert KEY not in done.stderr + done.stdout


def _environment(key: str | None, more: dict[str, str]) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return {**found, **({} if key is None else {"OPENAI_API_KEY": key}), **more}


@contextmanager
def _started(command: list[str], stdin: str, cwd: Path) -> Iterator[None]:
    """What a process has of its own: arguments, standard input, folder, handlers of signals."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    before = Path.cwd()
    os.chdir(cwd)
    try:
        with patch.object(sys, "argv", command), patch.object(sys, "stdin", io.StringIO(stdin)):
            yield
    finally:
        os.chdir(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
