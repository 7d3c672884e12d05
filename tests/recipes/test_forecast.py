"""What a run says of its price before it is paid."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aflow_ops.executor import ExecutorConfig
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.training.forecast import print_forecast


def forecast(processes: int, rows: list[dict[str, Any]], **changes: Any) -> None:
    training = {
        "max_steps": 10,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 1,
        "num_generations": 4,
        "num_iterations": 1,
        **changes,
    }
    executor = ExecutorConfig(
        executor_model=changes.get("model", "gpt-4o-mini"), executor_budget_usd=0.0 if "model" in changes else 5.0
    )
    print_forecast(rows, cast(WorkflowGRPOConfig, SimpleNamespace(**training)), executor, 100, processes)


ROWS = [{"trace": {"prompt_tokens": 1000, "completion_tokens": 500, "calls": [1, 2, 3]}}, {"trace": None}]


def test_the_forecast_is_rollouts_times_what_one_cost_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    forecast(2, ROWS)
    said = capsys.readouterr().err
    each = (1000 * 0.15e-6 + 500 * 0.60e-6) / 2
    assert "320 rollouts in 10 steps" in said
    assert f"${320 * each:,.2f}" in said
    assert "480 operator calls" in said
    assert "budget $5" in said


def test_epochs_count_as_steps(capsys: pytest.CaptureFixture[str]) -> None:
    forecast(1, ROWS, max_steps=-1)
    assert "400 rollouts in 25 steps" in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "said"), [(10, "80 rollouts in 10 steps"), (-1, "400 rollouts in 50 steps")])
def test_a_generation_that_is_trained_on_twice_is_paid_once(
    steps: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(1, ROWS, max_steps=steps, num_iterations=2)
    assert said in capsys.readouterr().err


def test_without_a_price_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    forecast(1, ROWS, model="my-model")
    forecast(1, [{"trace": None}])
    assert capsys.readouterr().err == ""
