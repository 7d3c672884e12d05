"""The second ring: solution code in a sandboxed CPython."""

from aflow_ops.sandbox.launch import open_sandbox
from aflow_ops.sandbox.types import RunProgram, Sandbox, SandboxResult, Session

__all__ = ["RunProgram", "Sandbox", "SandboxResult", "Session", "open_sandbox"]
