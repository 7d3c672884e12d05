from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.pairs import all_pairs, sample_pairs
from data.trajectories import Trajectory
from data.trajectory_sets import by_group, has_signal
from tests.data.test_trajectories import ROW, TRAJECTORIES


@given(st.lists(TRAJECTORIES))
def test_every_two_workflows_of_a_problem_that_earned_differently_are_a_pair(rows: list[Trajectory]) -> None:
    pairs = all_pairs(rows)
    assert all(pair.chosen.group == pair.rejected.group and pair.gap > 0 for pair in pairs)
    assert {pair.chosen.group for pair in pairs} == {
        name for name, group in by_group(rows).items() if has_signal(group)
    }
    expected = sum(a.group == b.group and a.reward - b.reward > 1e-6 for a in rows for b in rows)
    assert len(pairs) == expected


def test_pairs_are_drawn_in_proportion_to_the_cube_of_their_gap() -> None:
    base = Trajectory.from_row(ROW)
    rows = [replace(base, completion=str(reward), reward=reward) for reward in (0.0, 0.5, 1.0)]
    drawn = sample_pairs(all_pairs(rows), 20_000, power=3, seed=1)
    shares = Counter(round(pair.gap, 1) for pair in drawn)
    assert shares[1.0] / 20_000 == pytest.approx(1 / (1 + 2 * 0.125), abs=0.01)
    assert shares[0.5] / 20_000 == pytest.approx(2 * 0.125 / (1 + 2 * 0.125), abs=0.01)
    assert drawn == sample_pairs(all_pairs(rows), 20_000, power=3, seed=1)
    alike = Counter(pair.gap for pair in sample_pairs(all_pairs(rows), 20_000, power=0, seed=1))
    assert alike[1.0] / 20_000 == pytest.approx(1 / 3, abs=0.01)


def test_what_failed_is_a_negative() -> None:
    good = Trajectory.from_row(ROW)
    bad = replace(good, completion="nonsense", reward=0.0, outcome="policy_error")
    (pair,) = all_pairs([bad, good])
    assert (pair.chosen, pair.rejected) == (good, bad)
