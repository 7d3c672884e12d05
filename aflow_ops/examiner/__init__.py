"""The examiner: runs tests against code that must not be able to touch them or their verdict."""

from aflow_ops.examiner.run import SolutionReport, run_tests

__all__ = ["SolutionReport", "run_tests"]
