"""The frame around every command: one line for an expected error, and the exit code that tells what kind it was."""

import argparse
import atexit
import ctypes
import difflib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from aflow_ops.errors import BudgetExceededError, InfraError, UsageError
from aflow_ops.terminal import printable
from data.files import path_of
from data.problem import DataError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A terminal narrower than this cannot be meant: tables would have a letter a line, or none.
LEAST_COLUMNS = 20
OK, RUN_ERROR, USAGE_ERROR, BUDGET_SPENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, what was started is stopped on the way out."""


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` for scripts: docstrings keep their lines, flags are spelled out, misspelt ones are named."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line; a required flag that is missing may be there in another spelling."""
        known = list(self._option_string_actions)
        unknown = [flag for word in sys.argv[1:] if (flag := word.partition("=")[0])[:2] == "--" and flag not in known]
        for flag in unknown if "required" in message else ():
            close = difflib.get_close_matches(flag, known, n=1)
            message += f"; unknown: {flag}" + (f" (did you mean {close[0]}?)" if close else "")
        self.exit(USAGE_ERROR, f"{self.prog}: error: {printable(message)} (--help shows all flags)\n")


def _path(text: str) -> Path:
    """A path as it is given: an empty one is a variable that is not set, and would mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a file or a folder")
    return path_of(text)


def run_command(main: Callable[[], None]) -> int:
    """Run a command and return its exit code.

    0 when it worked; 2 for a usage error (a bad flag, a missing file or key, a malformed row); 1 when the run itself
    failed for a reason outside this program (executor, sandbox, disk); 3 when the budget was spent; 130 for Ctrl-C and
    143 for SIGTERM. Errors of these kinds are printed as one line on standard error; any other exception is a bug and
    keeps its traceback.

    Called from a script's own module, it also sees to it that the process ends with this code.
    """
    if sys._getframe(1).f_globals.get("__name__") != "__main__":
        return _code_of(main)
    code = RUN_ERROR  # of a bug
    try:
        code = _code_of(main)
    except SystemExit as stop:  # argparse: --help, a bad flag
        code = stop.code if isinstance(stop.code, int) else RUN_ERROR if stop.code else OK
        raise
    finally:
        atexit.register(_leave, code)
    return code


def _leave(code: int) -> None:
    """End after all other exit handlers, without the interpreter's own teardown.

    What native libraries do there may abort the process (pydantic-monty 1.4.0 now and then does), and the exit code
    would be the abort's.
    """
    atexit.unregister(_leave)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _code_of(main: Callable[[], None]) -> int:
    _prepare_terminal()
    signal.signal(signal.SIGTERM, _terminate)
    if "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ:
        end_with_parent()
    try:
        main()
        sys.stdout.flush()
    except (UsageError, DataError) as error:
        return _failed(error, USAGE_ERROR)
    except BudgetExceededError as error:
        return _failed(error, BUDGET_SPENT)
    except InfraError as error:
        return _failed(error, RUN_ERROR)
    except OSError as error:  # a full disk, no permission, a closed pipe
        # What standard output still holds cannot be written either, and must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RUN_ERROR if isinstance(error, BrokenPipeError) else _failed(error, RUN_ERROR)
    except Terminated:
        print("terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def _prepare_terminal() -> None:
    """Be able to say everything: without standard streams, in any encoding, at any width that the environment names."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as we live
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not os.environ.get("COLUMNS", "80").isdigit() or int(os.environ.get("COLUMNS", "80")) < LEAST_COLUMNS:
        del os.environ["COLUMNS"]


def end_with_parent() -> None:
    """Get a SIGTERM when the launcher goes: `accelerate launch` does not pass its own on, and leaves an orphan."""
    with suppress(OSError, AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _failed(error: Exception, code: int) -> int:
    lines = [line.strip() for line in str(error).splitlines()]
    print(f"error: {printable(' '.join(line for line in lines if line))}", file=sys.stderr)
    return code
