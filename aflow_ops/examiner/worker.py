"""The solution's side: loads it and answers calls. Nothing of the tests is in this process.

Messages come as JSON, one at a time: `["call", name or handle, args, kwargs]`, or an operation of `OPERATIONS` on an
object that stayed here, `["get", handle, "attribute"]`. The answer is `["value", result, args afterwards]` or
`["error", class, text]`. A test's own function that was passed as an argument is called back by `["callback", number,
args, kwargs]`, before the answer.

Part of the program of `harness.py`.
"""

import atexit
import importlib
import os
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from itertools import islice
from typing import Any

from aflow_ops.examiner.operators import applied
from aflow_ops.examiner.wire import MAX_PRINTED_BYTES, decode, dumps, encode, receive, send

FAR = 1e7
MAX_CHUNK = 1024

# What a test may ask of an object that stayed here; each answer is a value that the solution commits itself to.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "bool": bool,
    "len": len,
    "str": str,
    "repr": repr,
    "int": int,
    "float": float,
    "index": lambda value: value.__index__(),
    "iter": iter,
    "item": lambda value, key: value[key],
    "get": getattr,
    "set": setattr,
    "operator": applied,
    "kinds": lambda value: [kind.__name__ for kind in (value if isinstance(value, type) else type(value)).__mro__],
}


class Worker:
    """Answers calls over one pipe until it ends.

    Args:
        fd (`int`): our end of the pipe.
        namespace (`dict`): of the loaded solution.
    """

    def __init__(self, fd: int, namespace: dict[str, Any]) -> None:
        self.fd, self.namespace = fd, namespace
        self.objects: list[Any] = []
        self.readers = {
            "object": lambda handle: self.objects[handle],
            "callback": self.callback,
            "global": imported,
            "instance": self.instance,
        }

    def refer(self, value: Any) -> Any:
        """Keep what cannot cross, and say how it is called."""
        if isinstance(value, types.CoroutineType):
            import asyncio  # takes longer than most tests, and hardly any solution needs it

            return {"coroutine": encode(asyncio.run(value), self.refer)}
        self.objects.append(value)
        tag = "stream" if hasattr(value, "__next__") else "object"
        return {tag: [len(self.objects) - 1, type(value).__name__]}

    def callback(self, number: Any) -> Callable[..., Any]:
        """A function of the test, as the solution sees it."""

        def call(*args: Any, **kwargs: Any) -> Any:
            given = [encode(item, self.refer) for item in args], encode(kwargs, self.refer)
            send(self.fd, dumps(["callback", number, *given]))
            return self.serve()

        return call

    def instance(self, parts: Any) -> Any:
        """An object of a class that the test or the question defines."""
        name, state = parts
        found = self.namespace.get(name)
        made: Any = object.__new__(found if isinstance(found, type) else type(name, (), {}))
        vars(made).update(state)
        return made

    def serve(self) -> Any:
        """Answer messages until the pipe ends, or until a callback has its result."""
        while True:
            message = decode(receive(self.fd, time.monotonic() + FAR), self.readers)
            if message[0] == "result":
                return message[1]
            if message[0] == "raised":
                raise error_class(message[1])(message[2])
            send(self.fd, self.reply(message))

    def reply(self, message: Any) -> bytes:
        """Do what a message asks for and write what came of it."""
        try:
            return dumps(["value", *self.done(message)])
        except BaseException as error:
            return dumps(["error", type(error).__name__, str(error)[:500]])

    def done(self, message: Any) -> list[Any]:
        """Return the written result and, after a call, the written arguments."""
        kind, name, *rest = message
        target = self.namespace[name] if isinstance(name, str) else self.objects[name]
        if kind == "call":
            args, kwargs = rest
            result = encode(target(*args, **kwargs), self.refer)
            return [result, [encode(item, self.refer) if is_mutable(item) else None for item in args]]
        if kind == "next":
            return [self.chunk(target, rest[0]), None]
        if kind == "state":
            return [self.state(target), None]
        return [encode(OPERATIONS[kind](target, *rest), self.refer), None]

    def chunk(self, stream: Any, size: int) -> Any:
        """Some items of an iterator, and what it ended with: `"more"`, `"end"` or an error's class and text."""
        items: list[Any] = []
        try:
            items.extend(encode(item, self.refer) for item in islice(stream, min(size, MAX_CHUNK)))
        except BaseException as error:
            return [items, [type(error).__name__, str(error)[:500]]]
        return [items, "more" if len(items) == min(size, MAX_CHUNK) else "end"]

    def state(self, value: Any) -> Any:
        """The attributes of an object, by name."""
        slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(value, name)]
        found = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots}}
        return encode([type(value).__name__, {str(name): item for name, item in found.items()}], self.refer)


def is_mutable(value: Any) -> bool:
    """Whether a call may have changed an argument in place."""
    return hasattr(value, "clear") and hasattr(value, "__len__")


def imported(path: Any) -> Any:
    """Something that a test names by its module."""
    module, _, name = str(path).partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def error_class(name: Any) -> type[Exception]:
    """The class that a callback's error has here."""
    found = getattr(sys.modules["builtins"], str(name), None)
    return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError


def new_module(name: str) -> dict[str, Any]:
    """Return the namespace of a fresh module that dataclasses and pickles can look up by name."""
    module = types.ModuleType(name)
    sys.modules[name] = sys.modules["__main__"] = module
    return module.__dict__


def kind_of(value: Any) -> str:
    """What a test may do with a name of the solution."""
    if isinstance(value, type):
        return "exception" if issubclass(value, Exception) else "class"
    return "function"


def serve_functions(fd: int, source: str, before: str, after: str) -> None:
    """Load the solution and answer calls until the pipe ends. The body of a worker."""
    namespace = new_module("__solution__")
    try:
        exec(compile(before, "<imports>", "exec", dont_inherit=True), namespace)
        exec(compile(source, "<solution>", "exec", dont_inherit=True), namespace)
        exec(compile(after, "<solution>", "exec", dont_inherit=True), namespace)
        names = {
            name: kind_of(value) for name, value in list(namespace.items()) if callable(value) and name[:2] != "__"
        }
        send(fd, dumps(["loaded", [[name, kind] for name, kind in names.items()]]))
    except BaseException as error:
        send(fd, dumps(["failed", f"{type(error).__name__}: {error}"[:500]]))
        return
    Worker(fd, namespace).serve()


def serve_programs(fd: int, source: str) -> None:
    """Run the solution as a program for each input that comes; it never runs in this process."""
    send(fd, dumps(["loaded", []]))
    while True:
        stdin, seconds = decode(receive(fd, time.monotonic() + FAR, MAX_PRINTED_BYTES), {})
        try:
            send(fd, b"+" + run_program(source, stdin, seconds))
        except OSError as error:
            send(fd, b"-" + str(error).encode())


def run_program(source: str, stdin: str, seconds: float) -> bytes:
    """Fork a process that runs the solution on an input; return its output.

    Raises:
        TimeoutError: it ran out of time.
        OSError: it printed too much, or ended with another status than 0.
    """
    given, taken = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        be_the_program(source, given[0], taken[1], len(stdin.encode("utf-8", "surrogatepass")))
    for fd in (given[0], taken[1]):
        os.close(fd)
    os.set_blocking(given[1], False)
    try:
        output = carry(given[1], taken[0], stdin.encode("utf-8", "surrogatepass"), time.monotonic() + seconds)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise OSError(f"the program ended with status {status}")
    return output


def carry(stdin: int, stdout: int, left: bytes, deadline: float) -> bytes:
    """Write a program's input and read its output to the end."""
    output, writing = bytearray(), [stdin]
    try:
        while True:
            readable, writable, _ = select.select([stdout], writing, [], max(0.0, deadline - time.monotonic()))
            if not readable and not writable:
                raise TimeoutError("timed out")
            if writable:
                try:
                    left = left[os.write(stdin, left[: 1 << 16]) :] if left else left
                except BrokenPipeError:
                    left = b""
                if not left:
                    os.close(stdin)
                    writing = []
            if readable:
                part = os.read(stdout, 1 << 18)
                output += part
                if not part:
                    return bytes(output)
                if len(output) > MAX_PRINTED_BYTES:
                    raise OSError("printed too much")
    finally:
        for fd in (*writing, stdout):
            os.close(fd)


def have_a_file_as_input(size: int) -> None:
    """Let `os` show this process's input as the file that judges redirect: with a size, and read as far as wanted."""
    fstat, read = os.fstat, os.read

    def fstat_of_file(fd: int) -> os.stat_result:
        found = fstat(fd)
        return os.stat_result((*found[:6], size, *found[7:])) if fd == 0 else found

    def read_of_file(fd: int, length: int) -> bytes:
        data = read(fd, length)
        while fd == 0 and len(data) < length and (more := read(fd, length - len(data))):
            data += more
        return data

    os.fstat, os.read = fstat_of_file, read_of_file


def be_the_program(source: str, stdin: int, stdout: int, size: int) -> None:
    """Take the pipes, run the solution as the main program to the end of its threads, and end."""
    status = 1
    try:
        globals()["_confine"]()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.closerange(3, 256)
        output = open(1, "w", encoding="utf-8")  # noqa: SIM115
        sys.stdin, sys.stdout = open(0, encoding="utf-8"), output  # noqa: SIM115
        sys.__stdin__, sys.__stdout__ = sys.stdin, output  # type: ignore[misc]
        sys.argv = ["program.py"]
        have_a_file_as_input(size)
        namespace = new_module("__main__")
        try:
            exec(compile(source, "<solution>", "exec", dont_inherit=True), namespace)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        threading._shutdown()  # type: ignore[attr-defined]  # as an interpreter does at its end
        atexit._run_exitfuncs()
        sys.stdout.flush()
        output.flush()
    finally:
        os._exit(status & 0xFF)
