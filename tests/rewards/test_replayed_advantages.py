import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.advantages import TIER_STD
from rewards.replay import replayed_advantages

REWARDS = st.lists(st.none() | st.sampled_from([0.0, 0.2, 0.4, 0.7, 1.0]), min_size=8, max_size=8)


def test_the_baseline_is_what_was_sampled() -> None:
    rows = [[0.0], [0.4], [0.2], [None], [1.0], [1.0], [1.0], [None]]
    found = replayed_advantages(rows, {3: 1.0, 7: 1.0}, [1.0], 0, 4, "none")
    assert found == pytest.approx({3: 0.8, 7: 0.0})


def test_the_scale_is_never_small() -> None:
    rows = [[0.0], [0.0], [0.0], [None]]
    assert replayed_advantages(rows, {3: 0.2}, [1.0], 0, 4, "group") == pytest.approx({3: 0.2 / TIER_STD})
    assert replayed_advantages(rows, {3: 0.2}, [1.0], 0, 4, "batch") == pytest.approx({3: 0.2 / TIER_STD})


def test_other_rewards_count_with_their_weight() -> None:
    rows = [[0.5, 0.0], [0.5, 0.0], [1.0, 0.0], [1.0, None]]
    found = replayed_advantages(rows, {3: 1.0}, [0.5, 2.0], 1, 4, "none")
    assert found == pytest.approx({3: (0.5 * 1.0 + 2.0) - 0.5 * (0.5 + 0.5 + 1.0) / 3})


@given(REWARDS, st.sets(st.integers(0, 7), max_size=4), st.sampled_from(["none", "group", "batch"]))
def test_a_replayed_row_is_above_zero_only_when_it_beats_what_was_sampled(
    rewards: list[float | None], replayed: set[int], scale: str
) -> None:
    rows = [[None if index in replayed else reward] for index, reward in enumerate(rewards)]
    known = {index: rewards[index] or 0.0 for index in replayed}
    found = replayed_advantages(rows, known, [1.0], 0, 4, scale)  # type: ignore[arg-type]
    assert found.keys() == known.keys()
    for index, advantage in found.items():
        first = index - index % 4
        sampled = [r for i in range(first, first + 4) if i not in replayed and (r := rewards[i]) is not None]
        mean = sum(sampled) / len(sampled) if sampled else known[index]
        assert (advantage > 1e-9) == (known[index] - mean > 1e-9)
        assert abs(advantage) <= 1 / TIER_STD + 1e-9
