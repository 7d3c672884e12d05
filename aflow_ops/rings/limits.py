"""The limits of one workflow run, the same in both rings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RuntimeLimits:
    """Limits of one workflow run.

    Args:
        timeout (`float`): wall seconds for the whole run, operator calls included.
        compute_seconds (`float`): seconds that the workflow's own code may compute.
        memory_bytes (`int`): heap of the workflow's own code.
        recursion_depth (`int`): call depth of the workflow's own code.
        operator_calls (`int`): most operator calls.
        argument_chars (`int`): most characters of one text handed to an operator.
        processes (`int`): interpreters of a ring at most; each holds some 6 MB, and a workflow keeps one while it runs.
    """

    timeout: float = 180.0
    compute_seconds: float = 2.0
    memory_bytes: int = 64 * 2**20
    recursion_depth: int = 200
    operator_calls: int = 64
    argument_chars: int = 40_000
    processes: int = 256

    @property
    def exchanges(self) -> int:
        """Most times that the workflow's code may turn to us: a call takes up to three, and some to spare."""
        return 20 + 4 * self.operator_calls
