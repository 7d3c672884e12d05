"""The frame around every command: one line for an expected error, and the exit code that tells what kind it was."""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from aflow_ops.errors import BudgetExceededError, InfraError, UsageError
from data.problem import DataError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
OK, RUN_ERROR, USAGE_ERROR, BUDGET_SPENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, what was started is stopped on the way out."""


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
    signal.signal(signal.SIGTERM, _terminate)
    if "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ:
        _end_with_parent()
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


def _end_with_parent() -> None:
    """Get a SIGTERM when the launcher goes: `accelerate launch` does not pass its own on, and leaves an orphan."""
    with suppress(OSError, AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
