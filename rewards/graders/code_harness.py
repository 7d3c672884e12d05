"""Runs hidden tests against a solution that must not be able to touch them. Executed inside the sandbox, not imported.

The solution never shares an interpreter with the tests. A worker is forked before the tests are read and confined
apart; it loads the solution and answers calls over a pipe, in values of Python's built-in types only (`marshal`). A
test runs here, with `candidate` and the solution's other functions as stand-ins that make such calls. So a solution
cannot read the tests, override `__eq__`, patch builtins, catch the assertion or exit with success; all it decides is
what its functions return. When a worker hangs or dies, the tests that are left are for another run of this program.

Input: two blocks of JSON, each with its length in 8 digits before it: `{"solution", "entry_point", "timeout",
"after_hang"}` (seconds for a test, and for one that follows a test which ran out of time), then `["test", ...]`. A test
is Python; `check_output(stdin, expected)` in it runs the solution as a program.
Output: JSON `{"parses", "defines", "note", "passed": [bool, ...], "error": first failure or null}`; `passed` is shorter
than the tests when the worker was lost.
"""

import ast
import builtins
import json
import marshal
import math
import os
import select
import signal
import socket
import sys
import time
import types

_read, _confine = globals()["_read"], globals()["_confine"]
MAX_REPLY = 4 << 20


def read_block():
    return json.loads(_read(int(_read(8))))


def send(fd, value):
    data = marshal.dumps(value)
    data = len(data).to_bytes(8, "big") + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd, deadline):
    data = bytearray()
    size = None
    while size is None or len(data) < size + 8:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("timed out")
        part = os.read(fd, 1 << 16)
        if not part:
            raise EOFError("the solution ended the process")
        data += part
        if size is None and len(data) >= 8:
            size = int.from_bytes(data[:8], "big")
            if size > MAX_REPLY:
                raise EOFError("the solution returned too much")
    return marshal.loads(data[8:])


# The solution's side


def plain(value, depth=0):
    """Reduce a value to built-in types, or refuse it."""
    if depth > 50:
        raise TypeError("nested too deeply")
    kind = type(value)
    if kind in (int, float, complex, bool, str, bytes, type(None)):
        return value
    if kind in (list, tuple, set, frozenset):
        return kind(plain(item, depth + 1) for item in value)
    if kind is dict:
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist(), depth + 1)  # numpy
    for base in (bool, int, float, str, list, tuple, dict, set):
        if isinstance(value, base):
            return plain(base(value), depth + 1)  # Counter, defaultdict, namedtuple, enums
    if hasattr(value, "__next__"):
        return ("__iterator__", plain(list(value), depth + 1))
    raise TypeError(f"a value of type {kind.__name__} cannot leave the solution")


def new_module(name):
    """Return the namespace of a fresh module that dataclasses and pickles can look up by name."""
    module = types.ModuleType(name)
    sys.modules[name] = sys.modules["__main__"] = module
    return module.__dict__


def serve_functions(fd, source, bind):
    """Load the solution and answer calls until the pipe ends. The body of a worker."""
    far = time.monotonic() + 1e6
    namespace = new_module("__solution__")
    try:
        exec(compile(source + bind, "<solution>", "exec", dont_inherit=True), namespace)
        names = [name for name, value in namespace.items() if callable(value) and not name.startswith("__")]
        send(fd, ["loaded", names])
    except BaseException as error:
        send(fd, ["failed", f"{type(error).__name__}: {error}"[:500]])
        return
    while True:
        name, args, kwargs = receive(fd, far)
        try:
            result = namespace[name](*args, **kwargs)
            reply = ["value", plain(result), plain(args)]
        except BaseException as error:
            reply = ["error", type(error).__name__, str(error)[:500]]
        send(fd, reply)


def serve_programs(fd, source):
    """Run the solution as a program for each input that comes; it never runs in this process."""
    send(fd, ["loaded", []])
    while True:
        stdin, seconds = receive(fd, time.monotonic() + 1e6)
        try:
            send(fd, ["value", run_program(source, stdin, seconds)])
        except OSError as error:
            send(fd, ["error", type(error).__name__, str(error)])


def run_program(source, stdin, seconds):
    """Fork a process that runs the solution on an input; returns its output, or raises why there is none."""
    given, taken = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        be_the_program(source, given[0], taken[1])
    for fd in (given[0], taken[1]):
        os.close(fd)
    output, left = bytearray(), stdin.encode("utf-8", "surrogatepass")
    os.set_blocking(given[1], False)
    deadline = time.monotonic() + seconds
    writing, failure = [given[1]], None
    while failure is None:
        readable, writable, _ = select.select([taken[0]], writing, [], max(0.0, deadline - time.monotonic()))
        if not readable and not writable:
            failure = TimeoutError("timed out")
        if writable:
            try:
                left = left[os.write(given[1], left[: 1 << 16]) :] if left else left
            except BrokenPipeError:
                left = b""
            if not left:
                os.close(given[1])
                writing = []
        if readable:
            part = os.read(taken[0], 1 << 16)
            output += part
            if not part:
                break
            if len(output) > MAX_REPLY // 2:
                failure = OSError("printed too much")
    if writing:
        os.close(given[1])
    os.close(taken[0])
    if failure is not None:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if failure is not None:
        raise failure
    if status != 0:
        raise OSError(f"the program ended with status {status}")
    return output.decode("utf-8", "replace")


def be_the_program(source, stdin, stdout):
    status = 1
    try:
        _confine()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.closerange(3, 256)
        sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
        sys.__stdin__, sys.__stdout__ = sys.stdin, sys.stdout
        namespace = new_module("__main__")
        try:
            exec(compile(source, "<solution>", "exec", dont_inherit=True), namespace)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        sys.stdout.flush()
    finally:
        os._exit(status & 0xFF)


def fork_worker(serve, *args):
    """Fork a process that serves the solution and knows nothing else; returns its id and our end of the pipe."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours.detach()
    try:
        fd = theirs.detach()
        os.dup2(fd, 3)
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.closerange(4, 256)
        _confine()
        serve(3, *args)
    finally:
        os._exit(0)


# The tests' side


class LostError(Exception):
    """The worker hung or died."""


class Solution:
    """The stand-in for the solution's module."""

    def __init__(self, pid, fd):
        self.pid, self.fd = pid, fd
        self.deadline = 0.0
        self.names = None
        self.lost = False

    def load(self):
        """Wait until the worker has loaded the solution."""
        if self.names is None:
            reply = self.exchange(None)
            if reply[0] != "loaded":
                self.lost = True
                raise LostError(str(reply[1]))
            self.names = [name for name in reply[1] if isinstance(name, str)]

    def exchange(self, message):
        try:
            if message is not None:
                send(self.fd, message)
            return receive(self.fd, self.deadline)
        except (OSError, EOFError, ValueError, TypeError) as error:
            self.lost = True
            raise LostError(str(error) if isinstance(error, (TimeoutError, EOFError)) else "no usable reply") from None

    def call(self, name, args, kwargs):
        reply = self.exchange([name, [plain(item) for item in args], {k: plain(v) for k, v in kwargs.items()}])
        if reply[0] == "error":
            raise builtin_exception(reply[1])(reply[2])
        _, result, changed = reply
        for before, after in zip(args, changed):
            if type(before) is list and type(after) is list:
                before[:] = after
            elif type(before) in (dict, set) and type(after) is type(before):
                before.clear()
                before.update(after)
        if type(result) is tuple and len(result) == 2 and result[0] == "__iterator__":
            return iter(result[1])
        return result

    def function(self, name):
        def call(*args, **kwargs):
            return self.call(name, args, kwargs)

        call.__name__ = name
        return call

    def check_output(self, stdin, expected):
        """Run the solution as a program; its output must be the expected one but for space at line ends."""
        seconds = max(0.0, self.deadline - time.monotonic())
        self.deadline += 1.0  # the worker notices the limit itself and lives on
        reply = self.exchange([stdin, seconds])
        if reply[0] == "error":
            raise AssertionError(reply[2])
        if not same_output(reply[1], expected):
            raise AssertionError("another output")


def same_output(printed, expected):
    """Compare by lines without trailing space; where a line differs, by its numbers."""
    left, right = ([line.rstrip() for line in text.rstrip().split("\n")] for text in (printed, expected))
    return len(left) == len(right) and all(a == b or same_numbers(a.split(), b.split()) for a, b in zip(left, right))


def same_numbers(left, right):
    try:
        return len(left) == len(right) and all(
            a == b or math.isclose(float(a), float(b), rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(left, right)
        )
    except ValueError:
        return False


def builtin_exception(name):
    """The class a test may expect; never an exit, whatever the solution raised."""
    found = getattr(builtins, str(name), None)
    return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError


def on_alarm(signum, frame):
    raise TimeoutError("timed out")


def run_test(test, solution, entry_point, timeout):
    """Return None when the test passes, else why not."""
    solution.deadline = time.monotonic() + timeout
    signal.setitimer(signal.ITIMER_REAL, timeout + 1.2)
    try:
        solution.load()
        namespace = {"__name__": "__test__", "math": math}
        for name in solution.names:
            if not hasattr(builtins, name):
                namespace[name] = solution.function(name)
        namespace["check_output"] = solution.check_output
        if entry_point:
            namespace[entry_point] = namespace["candidate"] = solution.function(entry_point)
        exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)
        # A test may have caught the error that says that the worker is gone.
        return "the solution hung or crashed" if solution.lost else None
    except LostError as error:
        return str(error)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def bound_names(body):
    """Names that a module binds at its top level, in order."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from bound_names(node.body)


def find_entry_point(source, entry_point):
    """Tell whether the source parses, whether it has the entry point, and what to add so that it goes by its name.

    A method of that name in `class Solution` will do, and so will the only function there is.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False, False, "", None
    if not entry_point or entry_point in bound_names(body):
        return True, True, "", None
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == "Solution":
            methods = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
            if entry_point in methods:
                return True, True, f"\n{entry_point} = Solution().{entry_point}\n", f"Solution().{entry_point}"
    functions = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if len(functions) == 1:
        return True, True, f"\n{entry_point} = {functions[0]}\n", f"{functions[0]} taken for {entry_point}"
    return True, False, "", None


def main():
    job = read_block()
    entry_point = job["entry_point"]
    parses, defined, bind, note = find_entry_point(job["solution"], entry_point)
    report = {"parses": parses, "defines": defined, "note": note, "passed": [], "error": None}
    if defined:
        if entry_point:
            pid, fd = fork_worker(serve_functions, job["solution"], bind)
        else:
            pid, fd = fork_worker(serve_programs, job["solution"])
        solution = Solution(pid, fd)
        signal.signal(signal.SIGALRM, on_alarm)
        for test in read_block():
            error = run_test(test, solution, entry_point, job["timeout"])
            report["passed"].append(error is None)
            report["error"] = report["error"] or error
            if error is not None and "timed out" in error:
                job["timeout"] = min(job["timeout"], job["after_hang"])
            if solution.lost:
                break
        os.kill(pid, signal.SIGKILL)
    data = json.dumps(report).encode()
    while data:
        data = data[os.write(1, data) :]


main()
