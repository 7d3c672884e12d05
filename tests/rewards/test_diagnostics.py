"""What a person learns of each domain while it trains."""

import json
import math

import pytest

from rewards.diagnostics import MIN_SAMPLES, TREND_STEPS, LearningWatch, Sample, shape_entropy, shape_of
from rewards.signal import LearningSignal

A, B = "AnswerGenerate", "Programmer"


def group(domain: str, *pairs: tuple[str | None, float | None]) -> list[Sample]:
    return [Sample(domain, shape, reward) for shape, reward in pairs]


def test_entropy_counts_shapes_of_valid_workflows() -> None:
    assert shape_entropy(group("qa", (A, 1.0), (B, 1.0), (None, 0.0))) == pytest.approx(math.log(2))
    assert shape_entropy(group("qa", (A, 1.0), (A, 0.0))) == 0.0
    assert shape_entropy(group("qa", (None, 0.0))) == 0.0
    assert shape_of(["Custom", "Review"]) == "Custom > Review"


def test_every_domain_has_its_own_metrics() -> None:
    watch = LearningWatch()
    metrics, warnings = watch.seen(
        [*group("math", (B, 1.0), (A, 0.2)), *group("qa", (A, 0.2), (A, 0.2)), *group("qa", (A, None), (A, None))], 2
    )
    assert metrics["domain/math/reward"] == pytest.approx(0.6)
    assert metrics["domain/math/zero_signal"] == 0.0
    assert metrics["domain/qa/zero_signal"] == 1.0
    assert metrics["domain/qa/shape_entropy"] == 0.0
    assert "domain/math/best_shape_missed" not in metrics, "nothing is known yet"
    assert warnings == []


def known(watch: LearningWatch) -> None:
    for _ in range(MIN_SAMPLES):
        watch.seen(group("math", (B, 1.0), (A, 0.2)), 2)


def test_groups_without_the_best_known_shape_are_counted() -> None:
    watch = LearningWatch()
    known(watch)
    metrics, _ = watch.seen([*group("math", (A, 0.2), (A, 0.2)), *group("math", (B, 1.0), (A, 0.2))], 2)
    assert metrics["domain/math/best_shape_missed"] == 0.5


def test_a_better_shape_that_is_no_longer_sampled_is_told_once() -> None:
    watch = LearningWatch()
    known(watch)
    told = [watch.seen(group("math", (A, 0.2), (A, 0.2)), 2)[1] for _ in range(2 * TREND_STEPS)]
    flat = [warning for warnings in told for warning in warnings]
    assert len(flat) == 1
    assert flat[0].startswith(f"math: {B} earned 1.00 and has not been sampled for {TREND_STEPS} steps")
    assert "entropy_coef" in flat[0]


def test_a_shape_that_was_no_better_may_go() -> None:
    watch = LearningWatch()
    for _ in range(MIN_SAMPLES):
        watch.seen(group("math", (B, 0.2), (A, 0.2)), 2)
    assert not [w for _ in range(9) for w in watch.seen(group("math", (A, 0.2), (A, 0.2)), 2)[1]]


def test_a_domain_that_falls_while_another_rises_is_told_once() -> None:
    watch = LearningWatch()
    told: list[str] = []
    for step in range(20):
        one, other = (1.0, 0.2) if step < 10 else (0.2, 0.4 + step / 40)
        told += watch.seen([*group("math", (A, one), (A, one)), *group("qa", (A, other), (A, other))], 2)[1]
    assert len(told) == 1
    assert told[0].startswith("math earns ")
    assert "while qa rises" in told[0]


def test_domains_that_fall_together_are_no_such_news() -> None:
    watch = LearningWatch()
    told: list[str] = []
    for step in range(20):
        reward = 1.0 if step < 10 else 0.2
        told += watch.seen([*group("math", (A, reward)), *group("qa", (A, reward))], 1)[1]
    assert not any("while" in warning for warning in told)


def test_a_resumed_run_says_what_it_would_have_said() -> None:
    first, second = (LearningSignal(2, "batch", 0.5) for _ in range(2))
    samples = [*group("math", (B, 1.0), (A, 0.2)), *group("math", (A, 0.2), (A, 0.2))]
    for _ in range(40):
        first.step(samples, [sample.reward for sample in samples])
    second.go_on_from(json.loads(json.dumps(first.state())))
    poor = group("math", (A, 0.2), (A, 0.2))
    one, other = (signal.step(poor, [0.2, 0.2]) for signal in (first, second))
    assert one == other
    assert one.advantages[0] < 0, "the group earns less than its domain did"
    assert one.metrics["domain/math/level"] == pytest.approx(0.4)
