"""Runs hidden tests against a solution that must not be able to touch them. Executed inside the sandbox, not imported.

The solution never shares an interpreter with the tests. Worker processes are forked before the tests are read; a worker
loads the solution and answers calls over a pipe, in values of Python's built-in types only (`marshal`). A test runs
here, with `candidate` and the solution's other functions as stand-ins that make such calls. So a solution cannot read
the tests, override `__eq__`, patch builtins, catch the assertion or exit with success; all it decides is what its
functions return. A worker that hangs or dies is replaced by a spare one.

Input: two blocks of JSON, each with its length in 8 digits before it: `{"solution", "entry_point", "spares",
"timeout"}`, then `["test", ...]`. Output:
JSON `{"parses", "defines", "passed": [bool, ...], "errors": [str or null, ...]}`.
"""

import ast
import builtins
import json
import marshal
import os
import select
import signal
import time

_read = globals()["_read"]
MAX_REPLY = 4 << 20


def read_block():
    return json.loads(_read(int(_read(8))))


def send(fd, value):
    data = marshal.dumps(value)
    data = len(data).to_bytes(8, "big") + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd, deadline):
    data = b""
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
                raise ValueError("the solution returned too much")
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


def serve(fd, solution):
    """Load the solution and answer calls until the pipe ends. The body of a worker."""
    far = time.monotonic() + 1e6
    namespace = {"__name__": "__solution__"}
    try:
        exec(compile(solution, "<solution>", "exec", dont_inherit=True), namespace)
        send(fd, ["loaded", [name for name, value in namespace.items() if callable(value)]])
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


def fork_worker(solution):
    """Fork a worker that knows the solution and nothing else; returns its process id and our end of the pipe."""
    import socket

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours.detach()
    fd = theirs.detach()
    os.dup2(fd, 3)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(4, 1024)
    try:
        if os.read(3, 1):  # a spare waits here until it is needed
            serve(3, solution)
    finally:
        os._exit(0)


# The tests' side


class Solution:
    """The stand-in for the solution's module: one worker at a time, replaced when it is lost."""

    def __init__(self, source, spares):
        self.workers = [fork_worker(source) for _ in range(spares)]
        self.current = None
        self.deadline = 0.0
        self.load_error = None
        self.names = []

    def start(self):
        if not self.workers:
            raise RuntimeError("the solution hung or crashed too often")
        self.current = self.workers.pop()
        os.write(self.current[1], b"!")
        reply = receive(self.current[1], self.deadline)
        if reply[0] != "loaded":
            self.load_error = str(reply[1])
            raise RuntimeError(self.load_error)
        self.names = [name for name in reply[1] if isinstance(name, str)]

    def drop(self):
        if self.current is not None:
            pid, fd = self.current
            self.current = None
            os.close(fd)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def call(self, name, args, kwargs):
        if self.current is None:
            self.start()
        try:
            send(self.current[1], [name, [plain(item) for item in args], {k: plain(v) for k, v in kwargs.items()}])
            reply = receive(self.current[1], self.deadline)
        except (OSError, EOFError, ValueError, TimeoutError):
            self.drop()
            raise
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


def builtin_exception(name):
    """The class a test may expect; never an exit, whatever the solution raised."""
    found = getattr(builtins, str(name), None)
    return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError


def on_alarm(signum, frame):
    raise TimeoutError("timed out")


def run_test(test, solution, entry_point, timeout):
    """Return None when the test passes, else why not."""
    solution.deadline = time.monotonic() + timeout
    signal.setitimer(signal.ITIMER_REAL, timeout + 0.2)
    try:
        if solution.current is None:
            solution.start()
        namespace = {"__name__": "__test__"}
        for name in solution.names:
            if not hasattr(builtins, name):
                namespace[name] = solution.function(name)
        namespace[entry_point] = namespace["candidate"] = solution.function(entry_point)
        exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)
        return None
    except BaseException as error:
        if isinstance(error, TimeoutError):
            solution.drop()
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def defines(source, entry_point):
    """Whether the source parses, and binds the entry point at its top level."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False, False
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == entry_point:
            return True, True
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == entry_point for target in node.targets):
            return True, True
    return True, False


def main():
    job = read_block()
    parses, defined = defines(job["solution"], job["entry_point"])
    report = {"parses": parses, "defines": defined, "passed": [], "errors": []}
    if defined:
        solution = Solution(job["solution"], job["spares"])
        signal.signal(signal.SIGALRM, on_alarm)
        for test in read_block():
            error = run_test(test, solution, job["entry_point"], job["timeout"])
            report["passed"].append(error is None)
            report["errors"].append(error)
            if solution.load_error is not None:
                break
    os.write(1, json.dumps(report).encode())
    os._exit(0)


main()
