"""Programs that forge the verdict on themselves. Each is wrong; each says that it is right."""

import asyncio

import pytest

from aflow_ops.examiner import run_tests
from aflow_ops.operators.programs import TestReport as Report
from aflow_ops.operators.programs import run_public_tests
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.problem import Problem
from rewards.graders.code import grade_code
from rewards.tiers import Grade
from tests.patience import PATIENCE

TESTS = ["assert double(2) == 4", "assert double(5) == 10", "assert math.isclose(double(1.5), 3.0)"]
WRONG = "\ndef double(x):\n    return 7"
# What a checker does that runs solution and tests in one interpreter: it stands here to show that the forgeries work.
NAIVE = """
import math, sys
def report(text, out=sys.stdout):
    out.write("verdict:" + text + "\\n")
    out.flush()
namespace = {"__name__": "solution", "math": math}
exec(compile(CODE, "<solution>", "exec"), namespace)
for index, test in enumerate(TESTS):
    report(str(index))
    exec(compile(test, "<test>", "exec"), dict(namespace, candidate=namespace["double"]))
report("passed")
"""
REPORTS = '{"parses": true, "defines": true, "note": null}\\n+\\n+\\n+\\nverdict:passed\\n'
LIAR = "\nclass Liar(BASE):\n    __eq__ = __le__ = __lt__ = __ge__ = __contains__ = lambda *a: True\n"
LIES = LIAR + "    __float__ = lambda self: 3.0\ndef double(x): return Liar()"

# These fool a checker that shares its interpreter with the solution.
FORGED_INSIDE = {
    "the caller's report": (
        "import os, sys\nframe = sys._getframe()\nwhile frame:\n    if 'report' in frame.f_globals:\n"
        "        frame.f_globals['report']('passed')\n        os._exit(0)\n    frame = frame.f_back" + WRONG
    ),
    "the caller's report, when called": (
        "import os, sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        if 'report' in frame.f_globals:\n            frame.f_globals['report']('passed')\n"
        "            os._exit(0)\n        frame = frame.f_back\n    return 7"
    ),
    "a report found by gc": (
        "import gc, os\nfor found in gc.get_objects():\n    if getattr(found, '__name__', '') == 'report':\n"
        "        found('passed')\n        os._exit(0)" + WRONG
    ),
    "the report of __main__": "import __main__, os\n__main__.report('passed')\nos._exit(0)" + WRONG,
    "the tests emptied": "import __main__\n__main__.TESTS.clear()" + WRONG,
    "the tests replaced": "import __main__\n__main__.TESTS[:] = ['pass']" + WRONG,
    "a traceback's frames": (
        "import os\ndef double(x):\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n"
        "        frame = error.__traceback__.tb_frame\n    while frame:\n        if 'report' in frame.f_globals:\n"
        "            frame.f_globals['report']('passed')\n            os._exit(0)\n        frame = frame.f_back\n"
        "    return 7"
    ),
    "printed and left": f"import os\nprint('''{REPORTS}''', flush=True)\nos._exit(0)" + WRONG,
    "printed and left when called": (
        f"import os\ndef double(x):\n    print('''{REPORTS}''', flush=True)\n    os._exit(0)"
    ),
    "written to every descriptor": (
        f"import os\nfor fd in range(64):\n    try:\n        os.write(fd, b'''{REPORTS}''')\n    except OSError:\n"
        "        pass\nos._exit(0)" + WRONG
    ),
    "written by a thread": (
        f"import os, threading\ndef end():\n    os.write(1, b'''{REPORTS}''')\n    os._exit(0)\n"
        "threading.Thread(target=end).start()\nimport time\ntime.sleep(0.5)" + WRONG
    ),
    "written on a signal": (
        f"import os, signal\ndef end(*a):\n    os.write(1, b'''{REPORTS}''')\n    os._exit(0)\n"
        "signal.signal(signal.SIGALRM, end)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\nimport time\ntime.sleep(0.5)"
        + WRONG
    ),
    "written by a profiler": (
        f"import os, sys\ndef end(*a):\n    os.write(1, b'''{REPORTS}''')\n    os._exit(0)\nsys.setprofile(end)" + WRONG
    ),
    "written by a tracer": (
        f"import os, sys\ndef end(*a):\n    os.write(1, b'''{REPORTS}''')\n    os._exit(0)\nsys.settrace(end)" + WRONG
    ),
    "written by a finalizer": (
        f"import os\nclass End:\n    def __del__(self):\n        os.write(1, b'''{REPORTS}''')\n        os._exit(0)\n"
        "End()" + WRONG
    ),
    "exec patched": "import builtins\nbuiltins.exec = lambda *a: None" + WRONG,
    "compile patched": "import builtins\nold = compile\nbuiltins.compile = lambda *a, **k: old('pass', '', 'exec')"
    + WRONG,
    "enumerate patched": "import builtins\nbuiltins.enumerate = lambda *a: ()" + WRONG,
    "an object equal to everything": LIES.replace("BASE", "object"),
    "an integer equal to everything": LIES.replace("BASE", "int"),
    "a float equal to everything": LIES.replace("BASE", "float").replace("Liar()", "Liar(3)"),
    "math patched": (
        "import math\nmath.isclose = lambda *a, **k: True\ndef double(x): return 2 * x if isinstance(x, int) else 7"
    ),
    "math replaced": (
        "class math:\n    isclose = lambda *a: True\ndef double(x): return 2 * x if isinstance(x, int) else 7"
    ),
    "math imported from elsewhere": (
        "from unittest.mock import call as math\ndef double(x): return 2 * x if isinstance(x, int) else 7"
    ),
}
# These are made against the examiner: its pipe, its values, its names.
_FRAME = (
    "import json, os\ndef put(message):\n    data = json.dumps(message).encode()\n"
    "    for fd in range(3, 64):\n        try:\n            os.write(fd, len(data).to_bytes(8, 'big') + data)\n"
    "        except OSError:\n            pass\n"
)
FORGED_APART = {
    "replies in advance": _FRAME + "for n in range(9): put(['value', 4, []])" + WRONG,
    "the names of a checker": (
        _FRAME + "put(['loaded', [[n, k] for n in ('double', 'math', 'candidate', 'AssertionError', 'isclose', 'exec')"
        " for k in ('exception', 'class', 'function')]])\nput(['value', {'type': 'object'}, []])" + WRONG
    ),
    "an end of the pipe": _FRAME + "os.close(3)" + WRONG,
    "an error that ends loops": "def double(x): raise StopIteration",
    "an exit": "def double(x): raise SystemExit(0)",
    "a generator's exit": "def double(x): raise GeneratorExit",
    "an assertion of its own": "def double(x): raise AssertionError('passed')",
    "an object that stays": "class Liar:\n    __eq__ = lambda *a: True\ndef double(x): return Liar()",
    "a class as the function": "class double:\n    def __init__(self, x): pass\n    __eq__ = lambda *a: True",
    "a tuple with names": (
        "import collections\nclass T(collections.namedtuple('T', 'count index')):\n    __eq__ = lambda *a: True\n"
        "def double(x): return T(4, 10)"
    ),
    "a huge decimal": "import decimal\ndef double(x): return decimal.Decimal('1e999999999')",
    "not a number": "def double(x): return float('nan')",
    "a coroutine": "class L:\n    __eq__ = lambda *a: True\nasync def double(x): return L()",
    "json patched": (
        "import json\njson.dumps = lambda *a, **k: '[\"value\", 4, []]'\n"
        "json.loads = lambda *a, **k: ['call', 'double', [2], {}]" + WRONG
    ),
    "the worker's own functions patched": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n    for name in ('encode', 'dumps', 'send', 'decode'):\n"
        "        if name in frame.f_globals:\n            frame.f_globals[name] = lambda *a, **k: b'+'\n"
        "    frame = frame.f_back" + WRONG
    ),
    "a pipe that nobody reads": "import os, time\nos.read(3, 1)\ntime.sleep(99)" + WRONG,
    "a pipe that is full": (
        "import os\nwhile True:\n    try:\n        os.write(3, b'\\xff' * 65536)\n    except OSError:\n        break"
        + WRONG
    ),
    "the parent killed": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)" + WRONG,
    "modules replaced": "import sys\nfor name in list(sys.modules): sys.modules[name] = None" + WRONG,
    "an audit hook": (
        _FRAME + "import sys\nsys.addaudithook(lambda *a: put(['value', 4, []]))\ncompile('1', '', 'eval')" + WRONG
    ),
    "a monitor": (
        _FRAME + "import sys\nsys.settrace(lambda *a: put(['value', 4, []]))\nif hasattr(sys, 'monitoring'):\n"
        "    sys.monitoring.use_tool_id(1, 'x')\n    sys.monitoring.register_callback(1, 1, lambda *a: put([4]))\n"
        "    sys.monitoring.set_events(1, 1)" + WRONG
    ),
    "a hook at the end": _FRAME + "import atexit\natexit.register(put, ['value', 4, []])\nraise SystemExit(0)" + WRONG,
    "a thread that answers for it": (
        _FRAME + "import threading, time\ndef work():\n    for _ in range(99):\n        put(['value', 4, []])\n"
        "        time.sleep(0.01)\nthreading.Thread(target=work, daemon=True).start()" + WRONG
    ),
    "a finalizer": (
        _FRAME
        + "class End:\n    def __del__(self): put(['value', 4, []])\ndef double(x):\n    end = End()\n    return 7"
    ),
    "garbage on every descriptor": (
        "import os\nfor fd in range(64):\n    try:\n        os.write(fd, os.urandom(4096))\n    except OSError:\n"
        "        pass" + WRONG
    ),
    "a message of nothing": "import os\nos.write(3, bytes(8))" + WRONG,
    "a message without an end": "import os\nos.write(3, b'\\xff' * 8)" + WRONG,
    "a callback that there is none of": _FRAME + "put(['callback', -1, [], {}])\nput(['callback', 0, [4], {}])" + WRONG,
    "an error of every name": (
        _FRAME
        + "for name in ('AssertionError', 'SystemExit', 'KeyboardInterrupt', 'GeneratorExit', 'StopAsyncIteration',"
        " 'BaseExceptionGroup'): put(['error', name, 'passed'])" + WRONG
    ),
    "a value that is nested for ever": (
        _FRAME
        + "nested = 4\nfor _ in range(900): nested = [nested]\nfor _ in range(9): put(['value', nested, []])"
        + WRONG
    ),
    "a tuple with names of methods": (
        _FRAME + "for _ in range(9): put(['value', {'namedtuple': ['T', ['__eq__', '__class__'], [4, 4]]}, []])" + WRONG
    ),
    "a type and its text": (
        _FRAME + "for _ in range(9): put(['value', {'iterator': [[4, {'type': 'float'}]]}, [4, 10]])" + WRONG
    ),
    "a handle that there is none of": _FRAME
    + "def double(x):\n    put(['value', {'object': [-1, 'x']}, []])\n    return 7",
    "an integer that takes for ever to read": (
        "import os\ndef double(x):\n    data = b'[\"value\",' + b'9' * 4_000_000 + b',[]]'\n"
        "    data = len(data).to_bytes(8, 'big') + data\n    while data: data = data[os.write(3, data):]\n    return 7"
    ),
    "a constant written over": (
        "import ctypes\nfor number in (4, 10):\n    ctypes.c_int.from_address(id(number) + 24).value = 7" + WRONG
    ),
    "the parent's memory written over": (
        "import ctypes, os\nclass Part(ctypes.Structure):\n"
        "    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n"
        "text = ctypes.create_string_buffer(b'+' * 64)\nown = Part(ctypes.addressof(text), 64)\n"
        "far = Part(id(print), 64)\nif ctypes.CDLL(None).process_vm_writev(os.getppid(), ctypes.byref(own), 1,"
        " ctypes.byref(far), 1, 0) > 0:\n    def double(x): return 2 * x" + WRONG
    ),
    "the parent's descriptors opened": (
        "import os\nfor fd in range(64):\n    try:\n        os.write(os.open(f'/proc/{os.getppid()}/fd/{fd}', 1),"
        f" b'''{REPORTS}''')\n    except OSError:\n        pass" + WRONG
    ),
    "the harness read from memory": (
        "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, dict) and 'Report' in o]\n"
        "for names in found: names['Report'].verdict = lambda self, error, loads: self.line('+')" + WRONG
    ),
}
FORGED = FORGED_INSIDE | FORGED_APART
PROBLEM = Problem.from_row(
    {
        "question": "Double it.",
        "answer": "",
        "source": "made",
        "domain": "code",
        "entry_point": "double",
        "tests": TESTS,
    }
)
RIGHT = "def double(x):\n    return 2 * x"


@pytest.mark.parametrize("name", FORGED_INSIDE)
async def test_the_forgery_fools_a_checker_in_the_same_interpreter(name: str, sandbox: Sandbox) -> None:
    result = await sandbox.run(f"CODE = {FORGED[name]!r}\nTESTS = {TESTS!r}\n{NAIVE}", timeout=20)
    assert "verdict:passed" in result.stdout, result


@pytest.fixture(scope="module")
def verdicts() -> dict[str, tuple[Report, Grade]]:
    """What the Test operator and the grader say of each forgery: several at a time, for those that hang only wait."""

    async def judged(name: str, sandbox: Sandbox) -> tuple[Report, Grade]:
        report = await run_public_tests(FORGED[name], "double", TESTS, sandbox.run, seconds=2)
        return report, await grade_code(FORGED[name], PROBLEM, sandbox)

    async def every() -> list[tuple[Report, Grade]]:
        async with open_sandbox(concurrency=4) as sandbox:
            return await asyncio.gather(*(judged(name, sandbox) for name in FORGED))

    return dict(zip(FORGED, asyncio.run(every()), strict=True))


@pytest.mark.parametrize("name", FORGED)
def test_no_forgery_passes_the_test_operator(name: str, verdicts: dict[str, tuple[Report, Grade]]) -> None:
    report, _ = verdicts[name]
    assert not report.passed
    assert report.failure


@pytest.mark.parametrize("name", FORGED)
def test_no_forgery_is_graded_right(name: str, verdicts: dict[str, tuple[Report, Grade]]) -> None:
    _, grade = verdicts[name]
    assert not grade.correct
    assert grade.tier <= 3  # two of three at most: some double integers rightly


async def test_a_value_that_takes_for_ever_costs_its_own_test_only(sandbox: Sandbox) -> None:
    """A step that no handler of a signal interrupts."""
    tests = ["assert sum(double(2)) == 4", "assert double(5) == 10"]
    code = "def double(x):\n    return range(10**14) if x == 2 else 2 * x"
    report = await run_tests(code, "double", tests, sandbox.run, seconds=1, total=PATIENCE)
    assert report.passed == (False, True)


async def test_the_honest_one_passes_both(sandbox: Sandbox) -> None:
    report = await run_public_tests(RIGHT, "double", TESTS, sandbox.run, seconds=5)
    assert (report.passed, report.count, report.failure) == (True, 3, "")
    assert (await grade_code(RIGHT, PROBLEM, sandbox)).correct


@pytest.mark.parametrize(
    ("code", "count", "failure"),
    [
        ("def double(x):\n    return x + 2", 1, "assert double(5) == 10\nAssertionError: double(5) returned 7"),
        ("def double(x):\n    return 1 / 0", 0, "assert double(2) == 4\nZeroDivisionError: division by zero"),
        ("1 / 0\ndef double(x):\n    return 2 * x", -1, "The code does not load.\nZeroDivisionError: division by zero"),
        ("def double(x) return", -1, "The code does not load.\nSyntaxError: expected ':' (<unknown>, line 1)"),
        ("def a(): pass\ndef b(): pass", -1, "The code does not load.\nNameError: the function double is not defined"),
        ("def double(x):\n    while True: pass", 0, "assert double(2) == 4\ntimed out"),
        ("def double(x):\n    import os\n    os._exit(0)", 0, "assert double(2) == 4\nthe solution ended the process"),
    ],
)
async def test_a_failure_says_what_the_executor_can_mend(code: str, count: int, failure: str, sandbox: Sandbox) -> None:
    report = await run_public_tests(code, "double", TESTS, sandbox.run, seconds=2)
    assert (report.passed, report.count, report.failure) == (False, count, failure)


@pytest.mark.parametrize(("code", "passed"), [(RIGHT, True), ("1 / 0\n" + RIGHT, False), ("x = 1", False)])
async def test_without_public_tests_the_code_must_load(code: str, passed: bool, sandbox: Sandbox) -> None:
    assert (await run_public_tests(code, "double", [], sandbox.run, seconds=5)).passed is passed


async def test_a_name_that_the_solution_imports_means_what_it_usually_does(sandbox: Sandbox) -> None:
    test = ["assert isclose(f(2), 1.41)"]
    for line in ("from operator import ne as isclose", "def isclose(*a): return True", "from math import isclose"):
        report = await run_tests(f"{line}\ndef f(x): return 9.0", "f", test, sandbox.run)
        assert report.passed == (False,)
    report = await run_tests(
        "from math import isclose, pi\ndef f(x): return pi", "f", ["assert f(1) == pi"], sandbox.run
    )
    assert report.passed == (True,)


async def test_only_a_test_that_hung_shortens_the_time_of_the_others(sandbox: Sandbox) -> None:
    """An error whose text speaks of a time-out is none; its tests come in two workers, for the third one crashes."""
    code = """
import os, time
def f(x):
    if x == 0:
        raise ValueError("timed out")
    if x == 2:
        os._exit(0)
    time.sleep(1.2)  # more than AFTER_HANG_SECONDS
    return x
"""
    tests = [f"assert f({x}) == {x}" for x in range(4)]
    report = await run_tests(code, "f", tests, sandbox.run, seconds=PATIENCE)
    assert report.passed == (False, True, False, True)
    assert not report.hung and report.error == "ValueError: timed out"


async def test_a_test_that_hung_says_so(sandbox: Sandbox) -> None:
    report = await run_tests(
        "def f(x):\n    while x: pass\n    return 0", "f", ["assert f(1) == 1"], sandbox.run, seconds=1
    )
    assert report.hung and report.passed == (False,)
