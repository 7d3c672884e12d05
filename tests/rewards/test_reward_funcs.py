"""Rewards by name, and what several columns of them come to."""

import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.errors import UsageError
from data.problem import Problem
from rewards.advantages import TIER_STD, advantage_scale
from rewards.columns import settle, tie_break_factor
from rewards.reward_funcs import PASSED, load_rewards, reward_name, valid
from rewards.workflow_reward import WorkflowReward

MODULE = """
import functools
CONSTANT = 3
def brevity(completions, **kwargs):
    return [1.0] * len(completions)
async def slow(prompts, completions, **kwargs):
    return [None] * len(completions)
def narrow(texts):
    return []
def takes_no_more(prompts, completions):
    return []
class Kept:
    def __call__(self, completions, **kwargs):
        return []
    class Inner:
        pass
kept = Kept()
half = functools.partial(brevity, scale=0.5)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules of rewards in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_rewards.py").write_text(MODULE)
    (tmp_path / "broken_rewards.py").write_text("1 / 0")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "deep.py").write_text(MODULE)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("own_", "broken_rewards"))]:
        del sys.modules[name]


def test_names_paths_and_callables_are_rewards_in_their_order(folder: Path) -> None:
    def mine(completions: Any, **kwargs: Any) -> list[float]:
        return []

    named = ["own_rewards:brevity", "workflow", "own_package.deep.slow", "own_rewards:half", mine, "valid"]
    with pytest.raises(UsageError, match="'brevity' is there twice"):
        load_rewards(named)
    del named[3]
    rewards = load_rewards(named, [1, 0, -2.5, 1, 1])
    assert [reward_name(reward) for reward in rewards] == ["brevity", "workflow", "slow", "mine", "valid"]
    assert isinstance(rewards[1], WorkflowReward)
    assert [reward_name(reward) for reward in load_rewards(["own_rewards:kept", "workflow"])] == ["Kept", "workflow"]
    assert reward_name(partial(partial(mine))) == "mine"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("brevity", "'brevity' is unknown; known: workflow, valid, or a path package.module:callable"),
        ("own_rewards:", "is unknown"),
        (":brevity", "is unknown"),
        ("", "is unknown"),
        ("no_such.module:brevity", "cannot import no_such.module: No module named 'no_such'"),
        ("..own_rewards:brevity", "fails when it is imported: TypeError"),
        ("own_rewards:gone", r"own_rewards \(.*own_rewards\.py\) has no 'gone'"),
        ("own_package:gone", "a namespace package"),
        ("broken_rewards:brevity", "fails when it is imported: ZeroDivisionError"),
        ("own_rewards:CONSTANT", "own_rewards:CONSTANT is not callable"),
        ("own_rewards:Kept", "is a class"),
        ("own_rewards:narrow", r"cannot be called as TRL calls rewards .*'texts'.*\*\*kwargs"),
        ("own_rewards:takes_no_more", r"unexpected keyword argument 'completion_ids'.*\*\*kwargs"),
    ],
)
def test_a_name_that_is_no_reward_is_a_usage_error_that_says_why(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)reward_funcs: .*{reason}"):
        load_rewards(["workflow", name])


@pytest.mark.parametrize(
    ("named", "weights", "reason"),
    [
        (["valid"], None, r"must name 'workflow' once"),
        ([], None, r"must name 'workflow' once"),
        (["workflow", "workflow"], None, r"must name 'workflow' once"),
        (["workflow", "valid"], [1.0], r"1 for 2 rewards \(workflow, valid\)"),
        (["workflow"], [1.0, 2.0], "2 for 1 rewards"),
        (["workflow", "valid"], [1.0, math.nan], "must be finite"),
    ],
)
def test_lists_that_cannot_train_are_refused(named: list[str], weights: list[float] | None, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_rewards(named, weights)


def test_valid_asks_only_whether_it_is_a_workflow() -> None:
    problem = json.dumps(Problem.from_row({"question": "1 + 1?", "answer": "2", "source": "gsm8k"}).to_row())
    texts = ["Custom -> Format", "nonsense", [{"role": "assistant", "content": "[Custom, Custom] -> ScEnsemble"}]]
    assert valid(completions=texts, problem=[problem] * 3) == [1.0, 0.0, 1.0]
    assert valid(**{name: [] for name in PASSED}) == []


Column = st.one_of(st.none(), st.floats(-5, 5))


@given(
    st.lists(st.tuples(Column, Column, Column), min_size=4, max_size=16).map(lambda rows: rows[: len(rows) // 4 * 4])
)
def test_silence_of_another_reward_moves_nobody(rows: list[tuple[float | None, ...]]) -> None:
    """A verdict that is not there changes no mean of a group, and what the workflow reward cannot grade has none."""
    settled = settle(rows, 1, 4)
    for start in range(0, len(rows), 4):
        group, after = rows[start : start + 4], settled[start : start + 4]
        for before, row in zip(group, after, strict=True):
            assert (row == [None] * 3) == (before[1] is None)
            assert all(new == old for old, new in zip(before, row, strict=True) if None not in (old, before[1]))
        for column in range(3):
            given_ = [row[column] for row in group if row[1] is not None and row[column] is not None]
            found = [row[column] for row in after if row[1] is not None]
            if given_:
                assert sum(v for v in found if v is not None) / len(found) == pytest.approx(sum(given_) / len(given_))
            else:
                assert all(value is None for value in found)


def test_rows_that_are_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="num_generations=4 does not divide 3 rows"):
        settle([[1.0]] * 3, 0, 4)


Tier = st.sampled_from([0.0, 0.2, 0.4, 0.7, 1.0])


@given(st.lists(Tier, min_size=2, max_size=12), st.sampled_from(["group", "batch", "none"]))
def test_alone_the_workflow_reward_is_what_it_was(rewards: list[float], scale: Any) -> None:
    assert tie_break_factor([[reward] for reward in rewards], [1.0], 0, scale) == 1.0


@given(
    st.lists(st.tuples(Tier, st.floats(-100, 100)), min_size=2, max_size=12),
    st.floats(0.1, 5),
    st.floats(-5, 5),
)
def test_next_to_a_loud_column_a_tie_break_stays_below_a_tier(
    rows: list[tuple[float, float]], weight: float, other: float
) -> None:
    factor = tie_break_factor(rows, [weight, other], 0, "batch")
    largest = factor * 0.12 / advantage_scale([row[0] for row in rows], "batch")
    sums = [weight * row[0] + other * row[1] for row in rows]
    mean = sum(sums) / len(sums)
    spread = math.sqrt(sum((value - mean) ** 2 for value in sums) / (len(sums) - 1))
    assert 0 < largest <= 0.12 * weight / max(weight * TIER_STD, spread) * (1 + 1e-6)


def test_a_workflow_reward_that_does_not_count_has_no_tie_breaks() -> None:
    assert tie_break_factor([[1.0, 3.0], [0.2, 1.0]], [0.0, 1.0], 0, "batch") == 0.0
    assert tie_break_factor([[1.0, 3.0], [0.2, 1.0]], [0.5, 1.0], 0, "none") == 0.5
