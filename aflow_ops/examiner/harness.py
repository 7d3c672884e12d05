"""Runs hidden tests against a solution that must not be able to touch them. Executed inside the sandbox.

The solution never shares an interpreter with the tests. A worker is forked before the tests are read and confined
apart; it loads the solution and answers calls over a pipe (`worker.py`), in values of a closed list of types
(`wire.py`). A test runs here, with `candidate` and the solution's other functions as stand-ins that make such
calls. So a solution cannot read the tests, override `__eq__`, patch builtins, catch the assertion or exit with success;
all it decides is what its functions return. Verdicts go to a descriptor that the worker never had. When a worker hangs
or dies, the tests that are left are for another run of this program.

Names in a test mean, in this order: what the question gives away, what modules have, what the solution defines. A
solution's imports say which modules a test may name, never what such a name means.

Input: two blocks of JSON, each with its length in 8 digits before it. The first is `{"solution", "entry_point",
"usual_imports", "seconds", "after_hang", "total", "after_failure", "explain"}`: seconds for a test, for one that
follows a test which ran out of time, for all of them, and for all of them once one has failed; whether to say what a
failing comparison met. The second is `{"given": source, "tests": [source, ...]}`. A test is Python; in it
`check_output(stdin, expected)` runs the solution as a program and `check_result(args, results)` calls it and compares
by JSON's rules.
Output: a line of JSON `{"parses", "defines", "note"}`, then for each test as it ends a line `+`, or `-` and, in the
first one, JSON `{"error", "loads", "hung"}`.
"""

import ast
import builtins
import faulthandler
import json
import os
import signal
import socket
import sys
import time
from types import CodeType
from typing import Any

from aflow_ops.examiner.compare import same_output, same_result
from aflow_ops.examiner.names import find_entry_point, imports_of, missing_imports, module_values, names_in
from aflow_ops.examiner.stand_ins import LostError, Solution
from aflow_ops.examiner.worker import serve_functions, serve_programs


def read_block() -> Any:
    """Read one block of the input."""
    read = globals()["_read"]
    return json.loads(read(int(read(8))))


def fork_worker(serve: Any, *args: Any) -> tuple[int, int]:
    """Fork a process that serves the solution and knows nothing else; return its id and our end of the pipe."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours.detach()
    try:
        os.dup2(theirs.detach(), 3)
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.closerange(4, 256)
        if serve is serve_functions:  # a program is confined where it runs, in a process of its own
            globals()["_confine"]()
        serve(3, *args)
    finally:
        os._exit(0)


def on_alarm(signum: int, frame: Any) -> None:
    """End a test that does not come back by itself."""
    raise TimeoutError("timed out")


class Examiner:
    """Runs tests one after the other.

    Args:
        solution (`Solution`): the worker.
        job (`dict`): the first block.
        given (`str`): source of what the question gives away.

    Attributes:
        hung (`bool`): the latest test was not done when its time was over.
    """

    def __init__(self, solution: Solution, job: dict[str, Any], given: str) -> None:
        self.solution, self.entry_point, self.explains = solution, job["entry_point"], job["explain"]
        self.hung = False
        self.imports = imports_of(job["solution"])
        self.given: dict[str, Any] = {"__name__": "__given__"}
        try:
            exec(compile(given, "<question>", "exec", dont_inherit=True), self.given)
        except Exception:
            self.given = {}  # prose that parses
        solution.given = self.given

    def namespace(self, test: CodeType) -> dict[str, Any]:
        """The globals of a test: every name that it may look up."""
        solution, found = self.solution, {}
        wanted = names_in(test)
        for name in wanted & set(solution.names) - set(self.imports):
            if not hasattr(builtins, name):
                found[name] = solution.stand_in(name)
        found |= module_values(wanted, self.imports)
        found |= {name: value for name, value in self.given.items() if not name.startswith("__")}
        found |= {"__name__": "__test__", "check_output": self.check_output, "check_result": self.check_result}
        if self.entry_point:
            found[self.entry_point] = found["candidate"] = solution.stand_in(self.entry_point)
        return found

    def check_output(self, stdin: str, expected: str) -> None:
        """Run the solution as a program; its output must be the expected one."""
        if not same_output(self.solution.printed(stdin), expected):
            raise AssertionError("another output")

    def check_result(self, args: list[Any], results: list[Any]) -> None:
        """Call the solution; what it returns must be one of the results."""
        result = self.solution.stand_in(self.entry_point)(*args)
        if not any(same_result(result, expected) for expected in results):
            raise AssertionError("another result")

    def run(self, test: str, seconds: float) -> str | None:
        """Return `None` when the test passes, else why not."""
        self.solution.deadline = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds + 1.2)
        # That raises between two steps of Python's. A step that takes for ever, such as a sum over a range that the
        # solution returned, ends this process, and the tests that are left go to another one.
        faulthandler.dump_traceback_later(seconds + 2.5, exit=True)
        namespace: dict[str, Any] = {}
        try:
            self.solution.load()
            code = compile(test, "<test>", "exec", dont_inherit=True)
            namespace = self.namespace(code)
            exec(code, namespace)
            # A test may have caught the error that says that the worker is gone.
            return "the solution hung or crashed" if self.solution.lost else None
        except LostError as error:
            return str(error)
        except AssertionError as error:
            text = str(error) or (returned(test, namespace) if self.explains else "")
            return f"AssertionError: {text}"[:300]
        except BaseException as error:
            return f"{type(error).__name__}: {error}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            self.hung = time.monotonic() >= self.solution.deadline


def returned(test: str, namespace: dict[str, Any]) -> str:
    """What the call returned that the last line of a failed test compares with something; empty if that is no such."""
    try:
        statement = ast.parse(test).body[-1]
        compared = statement.test if isinstance(statement, ast.Assert) else None
        if isinstance(compared, ast.Compare) and isinstance(compared.left, ast.Call):
            value = eval(compile(ast.Expression(compared.left), "<test>", "eval"), namespace)
            return f"{ast.unparse(compared.left)} returned {value!r}"
    except BaseException:
        return ""
    return ""


class Report:
    """Writes verdicts where neither the solution nor a test that prints can."""

    def __init__(self) -> None:
        self.fd = os.dup(1)
        os.set_inheritable(self.fd, False)
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        self.explained = False

    def line(self, text: str) -> None:
        """Write one line at once."""
        data = text.encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data) :]

    def verdict(self, error: str | None, *, loads: bool, hung: bool) -> None:
        """Write how one test ended."""
        why = "" if self.explained or error is None else json.dumps({"error": error, "loads": loads, "hung": hung})
        self.line("+" if error is None else f"-{why}")
        self.explained = self.explained or error is not None


def run_tests(examiner: Examiner, tests: list[str], job: dict[str, Any], report: Report) -> None:
    """Run tests until they, the time or the worker are at their end."""
    start, seconds = time.monotonic(), job["seconds"]
    end = start + job["total"]
    for test in tests:
        left = end - time.monotonic()
        if left <= 0:
            return
        error = examiner.run(test, min(seconds, left))
        report.verdict(error, loads=examiner.solution.loaded, hung=examiner.hung)
        if error is not None:
            end = min(end, start + job["after_failure"])
            if examiner.hung:
                seconds = min(seconds, job["after_hang"])
        if examiner.solution.lost:
            return


def main() -> None:
    """Fork the worker, read the tests, run them."""
    sys.set_int_max_str_digits(0)
    job = read_block()
    source, entry_point = job["solution"], job["entry_point"]
    parses, defined, bind, note = find_entry_point(source, entry_point)
    if defined and entry_point:
        before = missing_imports(source, everything=job["usual_imports"] or "Solution()" in bind)
        pid, fd = fork_worker(serve_functions, source, before, bind)
    elif defined:
        pid, fd = fork_worker(serve_programs, source)
    report = Report()
    report.line(json.dumps({"parses": parses, "defines": defined, "note": note}))
    if not defined:
        return
    signal.signal(signal.SIGALRM, on_alarm)
    block = read_block()
    run_tests(Examiner(Solution(fd), job, block["given"]), block["tests"], job, report)
    os.kill(pid, signal.SIGKILL)
