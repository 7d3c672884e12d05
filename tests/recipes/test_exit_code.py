"""A command's exit code is what `run_command` says, whatever native libraries do when the interpreter is torn down."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = """
import atexit, os, sys
from aflow_ops.errors import InfraError
from recipes.run.command import run_command

class Aborts:
    def __del__(self, abort=os.abort):
        abort()

native = Aborts()
atexit.register(lambda: print("early handler"))

def main():
    atexit.register(lambda: print("late handler"))
    print("output", end="")
    {body}

if __name__ == "__main__":
    sys.exit(run_command(main))
"""


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [("pass", 0, ""), ("raise InfraError('no executor')", 1, "error: no executor"), ("1 / 0", 1, "ZeroDivisionError")],
)
def test_the_exit_code_does_not_depend_on_the_teardown(tmp_path: Path, body: str, code: int, word: str) -> None:
    script = tmp_path / "command.py"
    script.write_text(COMMAND.format(body=body))
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert word in done.stderr
    assert done.stdout == "outputlate handler\nearly handler\n"
