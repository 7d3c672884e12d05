"""Curricula: the order of training problems, with shares exact, through the real trainer and across a resume."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from data import registry
from data.mixing import parse_mix
from data.problem import Domain, Problem
from recipes.run.checkpoints import read_checkpoint
from recipes.settings.arguments import RecipeArguments
from recipes.training.curriculum import queue_of
from recipes.training.phases import train_policy
from recipes.training.problems import mixed_problems, training_and_heldout_problems, training_dataset
from tests.recipes.tiny_run import COMPLETIONS, drawn_completions, make_trainer, problems

DOMAINS: tuple[Domain, ...] = ("math", "qa")


def processed(folder: Path, domain: str, count: int) -> None:
    """A processed dataset of `count` rows in each part."""
    for part in ("train", "test"):
        rows = [
            {"question": f"{part} {domain} {n}?", "answer": str(n), "source": domain, "domain": domain, "id": f"{n}"}
            for n in range(count)
        ]
        path = folder / domain / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", tmp_path)
    for domain in DOMAINS:
        processed(tmp_path, domain, 30)
    return list(DOMAINS)


def rows_file(path: Path, rewards: dict[tuple[str, int], Sequence[float | None]]) -> str:
    rows = [
        {"source": source, "id": str(n), "domain": source, "reward": reward}
        for (source, n), values in rewards.items()
        for reward in values
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def arguments(sources: list[str], **recipe: Any) -> RecipeArguments:
    changes = {"domain_mix": "math=0.6,qa=0.4", "num_train_problems": 20, "num_heldout_problems": 5, **recipe}
    return RecipeArguments(sources=sources, **changes)


def numbers(items: Sequence[Problem], domain: str) -> list[int]:
    return [int(item.id) for item in items if item.domain == domain]


def kept(source: str) -> list[int]:
    """Numbers of the training part of a source, in order: the others are held out."""
    numbers = sorted(int(problem.id) for problem in registry.iter_problems(source, "train", 0, shuffle=False))
    assert 15 < len(numbers) < 30
    return numbers


def test_order_is_the_sources_own(tmp_path: Path, sources: list[str]) -> None:
    train, heldout = training_and_heldout_problems(arguments(sources, curriculum="order"), 42)
    assert numbers(train, "math") == kept("math")[:12]
    assert numbers(train, "qa") == kept("qa")[:8]
    plain, same_heldout = training_and_heldout_problems(arguments(sources), 42)
    assert heldout == same_heldout
    assert numbers(plain, "math") != sorted(numbers(plain, "math"))


def test_order_begins_again_when_a_source_is_used_up(tmp_path: Path, sources: list[str]) -> None:
    train, _ = training_and_heldout_problems(arguments(sources, curriculum="order", num_train_problems=60), 42)
    assert numbers(train, "math") == (kept("math") * 2)[:36]


def test_the_easiest_come_first_and_the_unknown_in_the_middle_of_each_domain(
    tmp_path: Path, sources: list[str]
) -> None:
    known = [("math", n) for n in range(0, 30, 2)] + [("qa", n) for n in range(30)]
    rows = rows_file(tmp_path / "rows.jsonl", {key: [key[1] / 30, None] for key in known})
    args = arguments(sources, curriculum="pass_rate", curriculum_rows=rows)
    train, _ = training_and_heldout_problems(args, 42)
    assert numbers(train, "qa") == sorted(numbers(train, "qa"), reverse=True)
    math = numbers(train, "math")
    even, odd = [n for n in math if n % 2 == 0], [n for n in math if n % 2]
    assert even == sorted(even, reverse=True) and even and odd
    half = (len(even) + 1) // 2
    assert math == [*even[:half], *odd, *even[half:]]


@pytest.mark.parametrize("curriculum", ["order", "pass_rate"])
def test_shares_stay_exact_and_evenly_spread(tmp_path: Path, sources: list[str], curriculum: str) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", {("math", n): [n % 3 / 2] for n in range(30)})
    queue = queue_of(curriculum, rows, 0)
    mixed = mixed_problems(sources, parse_mix("math=0.75,qa=0.25"), 40, "train", 0, queue)
    assert len(numbers(mixed, "math")) == 30
    for start in range(0, 40, 8):
        assert abs(len(numbers(mixed[start : start + 8], "qa")) - 2) <= 1


def test_pass_rates_order_the_problems_that_a_shuffle_would_have_chosen(tmp_path: Path, sources: list[str]) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", {("math", n): [n / 30] for n in range(30)})
    args = arguments(sources, curriculum="pass_rate", curriculum_rows=rows)
    ordered = training_and_heldout_problems(args, 42)[0]
    plain = training_and_heldout_problems(arguments(sources), 42)[0]
    assert sorted(item.id for item in ordered) == sorted(item.id for item in plain)


def test_the_trainer_keeps_the_order_in_every_epoch_and_after_a_resume(config: ExecutorConfig, tmp_path: Path) -> None:
    """Four problems, two a step: two steps an epoch, resumed in the middle of the second one."""
    asked = [item.question for item in problems(4)]
    changes = {"save_strategy": "steps", "save_steps": 3}
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, curriculum="order")
    for steps, resume in ((3, None), (6, tmp_path / "run" / "checkpoint-3")):
        start = None if resume is None else read_checkpoint(resume)
        trainer = make_trainer(config, tmp_path / "run", recipe, max_steps=steps, start=start, **changes)
        trainer._generate_single_turn = drawn_completions(trainer, COMPLETIONS)  # type: ignore[method-assign]
        train_policy(trainer, start)
        trainer.close()
    assert training_dataset(problems(4), "brief")["prompt"] == trainer.train_dataset["prompt"]
    lines = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    assert [json.loads(line)["question"] for line in lines[::4]] == asked * 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"source": "math", "id": "1", "reward": 1.0}\n{"id": 2}\n', r"rows\.jsonl, line 2: not a row"),
        ("not json\n", r"rows\.jsonl, line 1: not a row"),
        ('{"source": "math", "id": "1", "reward": "much"}\n', r"rows\.jsonl, line 1: not a row"),
        ('{"source": "math", "id": "1", "reward": null}\n', r"rows\.jsonl: has no graded row"),
        ('{"source": "other", "id": "1", "reward": 1.0}\n', r"rows\.jsonl: rates none of the training problems"),
        (None, r"rows\.jsonl: cannot be read"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, sources: list[str], content: str | None, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=f"--curriculum_rows .*{reason}"):
        training_and_heldout_problems(arguments(sources, curriculum="pass_rate", curriculum_rows=str(path)), 42)


def test_flags_that_do_not_fit_each_other_are_refused() -> None:
    for recipe in ({"curriculum": "pass_rate"}, {"curriculum_rows": "rows.jsonl"}, {"curriculum": "hardest"}):
        with pytest.raises(ValueError, match="curriculum="):
            RecipeArguments(**recipe)  # type: ignore[arg-type]
