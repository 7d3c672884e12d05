"""The benchmark says its numbers and nothing else."""

import pytest

from scripts.benching.grading import _in_process


def test_nothing_is_said_of_a_time_limit_that_is_meant_to_be_missing(caplog: pytest.LogCaptureFixture) -> None:
    _in_process(r"\sum_{k=1}^{n} 2k", r"\sum_{j=1}^{n} j \cdot 2")
    assert not caplog.records
