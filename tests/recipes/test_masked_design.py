"""A design that the policy never samples is learnt from what a search found, by replay, and not without."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from aflow_ops.executor import ExecutorConfig
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.search.plan import call, print_plan, without_plan
from data.problem import Problem
from data.registry import load_problems
from recipes.policy.generation import generate_completions
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.settings.arguments import RecipeArguments
from tests import commands
from tests.recipes import tiny_run
from tests.recipes.test_trainer import rollouts
from tests.recipes.tiny_run import ASK, K, make_trainer, problems
from tests.stub_endpoint import Messages, StubEndpoint

SUM = re.compile(r"Calculate ([^.]*)\.")


def fenced(text: str) -> str:
    return f"```python\n{without_plan(text)}\n```"


# The best design for arithmetic, which is taught for questions about a text only, and what is taught for arithmetic.
BEST = fenced(print_plan(call("Programmer"), has_entry_point=False))
OTHERS = (
    fenced(ASK),
    "Custom -> Format",
    "[Custom, Custom] -> ScEnsemble",
    fenced(print_plan(call("Custom"), has_entry_point=False)),
)
STEPS, LAST = 30, 5
# Seeds 0 and two of 1 to 4 learn it in so many steps: below gamma a token's pull falls with its probability.
SEED = 0


def executor(messages: Messages) -> str:
    """Writes right code, and guesses otherwise."""
    text = "\n".join(message["content"] for message in messages)
    found = SUM.search(text)
    return f"```python\ndef solve():\n    return {found[1]}\n```" if found and "solve" in text else "17"


def asked(problem: Problem) -> list[dict[str, str]]:
    return [dict(message) for message in policy_messages(problem.view, "brief")]


def taught(seed: int) -> tuple[Any, Any]:
    """A policy that writes the best design where it does not help, and never where it does."""
    sums, facts = problems(24), load_problems("invented_facts", "train", 24, 0)
    texts = [each.view.text for each in (*sums, *facts)]
    tokenizer = train_tokenizer([*texts, BEST, *OTHERS, asked(sums[0])[0]["content"]], 640)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=2, max_length=512, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for turn in range(400):
        problem, text = (sums[turn % 24], OTHERS[turn // 2 % 4]) if turn % 2 else (facts[turn % 24], BEST)
        chat = [*asked(problem), {"role": "assistant", "content": text}]
        ids = torch.tensor([tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), tokenizer


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_design_that_is_never_sampled_is_learnt_by_replay_and_not_without(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answer = executor
    done = commands.run(
        "scripts/search.py", "--data", "arithmetic", "--output", tmp_path / "search", "--search_rounds", "16",
        "--validation_problems", "4", "--heldout_problems", "0", "--no-controls", "--executor_base_url", stub.url,
        "--executor_cache_dir", tmp_path / "cache", "--prompt_style", "brief",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model, tokenizer = taught(SEED)
    before = generate_completions(
        model, tokenizer, [asked(problem) for problem in problems(4) for _ in range(32)], max_new_tokens=96,
        temperature=1.0, batch_size=128, seed=SEED,
    )  # fmt: skip
    assert sum("programmer(" in text for text in before) == 0
    monkeypatch.setattr(tiny_run, "tiny_tokenizer", lambda: tokenizer)
    shares = {}
    for name, replay in (("with", [f"search:{tmp_path / 'search'}"]), ("without", [])):
        monkeypatch.setattr(tiny_run, "build_tiny_policy", lambda *_, **__: taught(SEED)[0])
        recipe = partial(RecipeArguments, prompt_style="brief", workflow_timeout=60, wa_grpo=False, collapse_patience=0)
        trainer = make_trainer(
            config, tmp_path / name, recipe(replay=replay), max_steps=STEPS,
            per_device_train_batch_size=4 * K,
            max_completion_length=96, seed=SEED, learning_rate=1e-2,
        )  # fmt: skip
        trainer.train()
        trainer.close()
        late = [row for row in rollouts(trainer) if row["step"] >= STEPS - LAST and not row.get("replay")]
        shares[name] = sum("programmer(" in row["completion"] and bool(row["correct"]) for row in late) / len(late)
    print(f"seed {SEED}: share of sampled workflows with the best design {shares}")
    assert shares["with"] > 0.5 and shares["without"] == 0.0
