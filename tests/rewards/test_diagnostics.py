"""What a person learns of each domain while it trains."""

import json
import math
import random

import pytest

from rewards.diagnostics import MIN_GROUPS, TREND_STEPS, LearningWatch, Sample, shape_entropy, shape_of
from rewards.signal import LearningSignal

A, B = "AnswerGenerate", "Programmer"


def group(domain: str, *pairs: tuple[str | None, float | None], problem: str = "p") -> list[Sample]:
    return [Sample(domain, problem, shape, reward) for shape, reward in pairs]


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
    for step in range(MIN_GROUPS):
        watch.seen(group("math", (B, 1.0), (A, 0.2), problem=str(step)), 2)


def test_groups_without_the_best_known_shape_are_counted() -> None:
    watch = LearningWatch()
    known(watch)
    metrics, _ = watch.seen([*group("math", (A, 0.2), (A, 0.2)), *group("math", (B, 1.0), (A, 0.2))], 2)
    assert metrics["domain/math/best_shape_missed"] == 0.5


def test_a_better_shape_that_is_no_longer_sampled_is_told_once() -> None:
    watch = LearningWatch()
    known(watch)
    told = [watch.seen(group("math", (A, 0.2), (A, 0.2), problem=str(step)), 2)[1] for step in range(2 * TREND_STEPS)]
    flat = [warning for warnings in told for warning in warnings]
    assert len(flat) == 1
    assert flat[0].startswith(f"math: {B} has not been sampled for {TREND_STEPS} steps, and earned 0.80 more")
    assert "shape_entropy_coef" in flat[0]


@pytest.mark.parametrize("earns", [0.2, 1.0])
def test_a_shape_that_is_no_better_than_one_that_is_sampled_may_go(earns: float) -> None:
    watch = LearningWatch()
    for step in range(MIN_GROUPS):
        watch.seen(group("math", (B, earns), (A, earns - 0.1), problem=str(step)), 2)
    poor = group("math", (A, earns - 0.1), (None, 0.0))
    assert not [w for _ in range(9) for w in watch.seen(poor, 2)[1]]


def test_a_shape_that_was_drawn_for_easy_problems_was_no_better() -> None:
    watch = LearningWatch()
    easy, hard = [str(number) for number in range(MIN_GROUPS)], ["x", "y", "z"]
    for problem in easy:
        watch.seen(group("math", (B, 1.0), (A, 1.0), problem=problem), 2)
    for step in range(4 * TREND_STEPS):
        drawn = [easy[step % len(easy)], *hard]
        groups = [group("math", *[(A, float(name in easy))] * 2, problem=name) for name in drawn]
        assert watch.seen([sample for samples in groups for sample in samples], 2)[1] == []


def test_a_domain_that_falls_while_another_does_not_is_told_once() -> None:
    watch = LearningWatch()
    told: list[str] = []
    for step in range(30):
        one, other = (1.0, 0.2) if step < 10 else (0.2, 0.4)
        for_math, for_qa = (
            group(name, (A, r), (A, r), problem=str(step)) for name, r in (("math", one), ("qa", other))
        )
        told += watch.seen([*for_math, *for_qa], 2)[1]
    assert len(told) == 1
    assert told[0].startswith("math earns 0.20, on like problems 0.62 less")
    assert "while qa does not fall" in told[0]


def test_domains_that_fall_together_are_no_such_news() -> None:
    watch = LearningWatch()
    told: list[str] = []
    for step in range(20):
        reward = 1.0 if step < 10 else 0.2
        problem = str(step)
        told += watch.seen(
            [*group("math", (A, reward), problem=problem), *group("qa", (A, reward), problem=problem)], 1
        )[1]
    assert not any("while" in warning for warning in told)


def run_like_the_quickstart(seed: int, problems: int, ruined_from: int) -> list[str]:
    """Warnings of 76 steps: four of a domain's problems a step, some easy and some hard, eight workflows for each.

    Every domain comes to write its good shapes, as in a run that is well. From one step on math writes only poor ones.
    """
    draw, watch, told = random.Random(seed), LearningWatch(), []
    chances = {name: [draw.choice((0.1, 0.5, 0.9, 1.0)) for _ in range(problems)] for name in ("math", "qa", "code")}
    for step in range(76):
        samples = []
        for domain, ease in chances.items():
            learned = 0.0 if domain == "math" and step >= ruined_from else min(0.9, 0.1 + step / 50)
            for problem in draw.sample(range(problems), 4):
                for _ in range(8):
                    good = draw.random() < learned
                    shape = f"{'good' if good else 'poor'} {draw.randrange(6)}"
                    reward = 1.0 if good and draw.random() < ease[problem] else 0.2
                    samples.append(Sample(domain, str(problem), shape, reward))
        told += watch.seen(samples, 8)[1]
    return told


@pytest.mark.parametrize("problems", [20, 2000])
@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_well_is_left_alone_and_one_that_is_not_is_told(seed: int, problems: int) -> None:
    assert run_like_the_quickstart(seed, problems, ruined_from=99) == []
    told = run_like_the_quickstart(seed, problems, ruined_from=40)
    assert {warning.split(" earns ")[0].split(":")[0] for warning in told} == {"math"}
    assert any("not fall" in warning for warning in told)
    assert any("has not been sampled" in warning for warning in told)


def test_a_resumed_run_says_what_it_would_have_said() -> None:
    first, second = (LearningSignal(2, "batch", 0.5) for _ in range(2))
    samples = [*group("math", (B, 1.0), (A, 0.2)), *group("math", (A, 0.2), (A, 0.2))]
    for _ in range(40):
        first.step(samples, [sample.reward for sample in samples])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    poor = group("math", (A, 0.2), (A, 0.2))
    one, other = (signal.step(poor, [0.2, 0.2]) for signal in (first, second))
    assert one == other
    assert one.advantages[0] < 0, "the group earns less than its domain did"
    assert one.metrics["domain/math/level"] == pytest.approx(0.4)
