"""The entropy bonus over designs: the true gradient of an entropy, and nothing to be gained by garbage."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.diagnostics import Sample
from rewards.exploration import shape_entropy_advantages
from rewards.signal import LearningSignal

SAMPLES = st.lists(
    st.builds(
        Sample,
        domain=st.sampled_from(["math", "qa"]),
        problem=st.just("p"),
        shape=st.sampled_from([None, "Custom", "Custom > Review", "Programmer"]),
        reward=st.sampled_from([None, 0.0, 0.4, 1.0]),
    ),
    min_size=12,
    max_size=12,
)


def of(*shapes: str | None, domain: str = "math", reward: float | None = 0.4) -> list[Sample]:
    return [Sample(domain, "p", shape, reward) for shape in shapes]


def test_the_rarer_design_is_moved_up_and_the_commoner_one_down() -> None:
    common, *_, rare = shape_entropy_advantages(of("Custom", "Custom", "Custom", "Programmer"), 4, 0.5)
    assert rare - common == pytest.approx(0.5 * math.log(3))
    assert common < 0 < rare


def test_designs_that_are_equally_frequent_get_nothing() -> None:
    assert shape_entropy_advantages(of("Custom", "Programmer", "Custom", "Programmer"), 2, 1.0) == [0.0] * 4


def test_each_domain_has_shares_of_its_own() -> None:
    samples = of("Custom", "Programmer") + of("Programmer", "Programmer", domain="qa")
    assert shape_entropy_advantages(samples, 2, 1.0) == [0.0] * 4


def test_to_be_invalid_is_never_rare() -> None:
    added = shape_entropy_advantages(of("Custom", "Custom", "Custom", None), 4, 1.0)
    assert added[3] == min(added)


def test_a_rollout_that_we_lost_gets_nothing_and_counts_for_nobody() -> None:
    lost = Sample("math", "p", "Programmer", None)
    with_it = shape_entropy_advantages([*of("Custom", "Custom", "Programmer"), lost], 4, 1.0)
    assert with_it == [*shape_entropy_advantages(of("Custom", "Custom", "Programmer"), 3, 1.0), 0.0]


@given(SAMPLES, st.sampled_from([2, 3, 4, 6]))
def test_a_group_is_moved_within_itself_only(samples: list[Sample], k: int) -> None:
    added = shape_entropy_advantages(samples, k, 0.7)
    for start in range(0, len(samples), k):
        assert sum(added[start : start + k]) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=24))
def test_it_is_the_gradient_of_the_entropy(shapes: list[str]) -> None:
    """Mean of `a_i * d ln p(shape_i) / d logit` over a batch, against the entropy's own gradient at its shares."""
    n = len(shapes)
    shares = {shape: count / n for shape, count in Counter(shapes).items()}
    entropy = -sum(p * math.log(p) for p in shares.values())
    added = shape_entropy_advantages(of(*shapes), n, 1.0)
    for logit, p in shares.items():
        estimated = sum(a * ((shape == logit) - p) for a, shape in zip(added, shapes, strict=True)) / n
        assert estimated == pytest.approx(-p * (math.log(p) + entropy), abs=1e-9)


def test_it_falls_to_nothing_over_the_run() -> None:
    samples = of("Custom", "Custom", "Custom", "Programmer")
    rewards = [sample.reward for sample in samples]

    def added(progress: float, coef: float = 0.4) -> list[float]:
        signal = LearningSignal(4, "batch", shape_entropy_coef=coef)
        return signal.step(samples, rewards, progress).advantages

    assert added(0.5) == pytest.approx([value / 2 for value in added(0.0)])
    assert added(1.0) == added(0.0, coef=0.0) == [0.0] * 4


def test_groups_must_be_whole() -> None:
    with pytest.raises(ValueError, match="num_generations=3 does not divide 4"):
        shape_entropy_advantages(of("a", "b", "c", "d"), 3, 1.0)
