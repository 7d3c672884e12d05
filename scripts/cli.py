"""The frame around every command: one line for an expected error, and the exit code that tells what kind it was."""

import os
import sys
from collections.abc import Callable

from aflow_ops.errors import InfraError, UsageError
from data.problem import DataError

OK, RUN_ERROR, USAGE_ERROR, INTERRUPTED = 0, 1, 2, 130


def run_command(main: Callable[[], None]) -> int:
    """Run a command and return its exit code.

    0 when it worked; 2 for a usage error (a bad flag, a missing file or key, a malformed row); 1 when the run itself
    failed for a reason outside this program (executor, sandbox, disk); 130 for Ctrl-C. Errors of these kinds are
    printed as one line on standard error; any other exception is a bug and keeps its traceback.
    """
    try:
        main()
        sys.stdout.flush()
    except (UsageError, DataError) as error:
        return _failed(error, USAGE_ERROR)
    except InfraError as error:
        return _failed(error, RUN_ERROR)
    except OSError as error:  # a full disk, no permission, a closed pipe
        # What standard output still holds cannot be written either, and must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RUN_ERROR if isinstance(error, BrokenPipeError) else _failed(error, RUN_ERROR)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
