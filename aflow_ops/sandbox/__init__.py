"""The second ring: solution code in a sandboxed CPython."""

from aflow_ops.sandbox.launch import open_sandbox
from aflow_ops.sandbox.types import Program, RunProgram, Sandbox, SandboxResult, Session

__all__ = ["Program", "RunProgram", "Sandbox", "SandboxResult", "Session", "open_sandbox"]
