"""A team small enough for tests: no tools, no sandbox; two agents, of which one is not always spoken to.

As a script, a short run whose turns are given instead of sampled:

accelerate launch tests/recipes/tiny_agents.py RUN_DIR BATCH ADAPTERS ROWS
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig

from aflow_ops.agents.episode import Agents
from aflow_ops.agents.team import Outcome, Role, Team
from aflow_ops.executor import ExecutorConfig
from data.problem import Problem
from data.registry import load_problems
from recipes.policy.tiny import build_tiny_policy, train_tokenizer, untie_embeddings
from recipes.run.checkpoints import Checkpoint
from recipes.settings.agents import AgentArguments
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.training import by_length
from recipes.training.agents import AgentGRPOTrainer

K = 4
ROLES = (Role("writer", "You write."), Role("critic", "You judge."))
# What the policy says, turn by turn, whoever it is.
SAID = ["good work", "bad", "good", "a bad one and more of it", "fine", "bad work", "good good", "no"]


def problems(count: int) -> list[Problem]:
    return load_problems("arithmetic", "train", count, 0)


def goodness(text: str) -> float:
    """What a text earns: a number that differs between most texts."""
    return text.count("good") - 0.5 * text.count("bad") + 0.01 * len(text)


async def run(task: Problem, agents: Agents) -> Outcome:
    """The writer writes, the critic judges unless the text is "no", and the writer writes again."""
    text = await agents.writer.say(task.view.text)
    local = {"writer": goodness(text)}
    if "no" not in text:
        word = await agents.critic.say(f"Judge: {text}")
        text = await agents.writer.say(f"The critic says: {word}")
        local["critic"] = goodness(word)
    return Outcome(team=float("good" in text), local=local, answer=text, correct="good" in text, metrics={"runs": 1.0})


def team(play: Any = run) -> Team:
    return Team(ROLES, play)


def make_agents(
    run_dir: Path,
    recipe: AgentArguments | None = None,
    play: Any = run,
    start: Checkpoint | None = None,
    executor: ExecutorConfig | None = None,
    modules_to_save: Sequence[str] = (),
    **changes: Any,
) -> AgentGRPOTrainer:
    tasks = problems(8)
    tokenizer = train_tokenizer([*(p.view.text for p in tasks), *SAID, *(role.prompt for role in ROLES)], 320)
    args = WorkflowGRPOConfig(
        **{
            "output_dir": str(run_dir),
            "num_generations": K,
            "per_device_train_batch_size": 2 * K,
            "max_completion_length": 8,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "loss_type": "grpo",
            "scale_rewards": "batch",
            "temperature": 1.0,
            "report_to": "none",
            "logging_steps": 1,
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            "save_strategy": "no",
            "activation_checkpointing": False,
            **changes,
        }
    )
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=512, seed=0)
    if modules_to_save:
        untie_embeddings(model)
    return AgentGRPOTrainer(
        model=model,
        args=args,
        recipe=recipe or AgentArguments(),
        team=team(play),
        problems=tasks,
        executor=executor,
        start=start,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=list(modules_to_save) or None),
    )


def given_turns(trainer: AgentGRPOTrainer, texts: Sequence[str] = SAID) -> Callable[..., Any]:
    """Stands in for sampling: what a conversation gets depends on its tokens alone, whatever the batch."""

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        tokenizer = trainer.processing_class
        first = trainer.accelerator.process_index * trainer.args.per_device_train_batch_size
        chosen = [texts[(sum(ids) + first + at) % len(texts)] for at, ids in enumerate(prompt_ids)]
        return [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in chosen], None

    return generate


def main() -> None:
    folder, batch, adapters, rows = sys.argv[1:]
    by_length.ROWS = 4  # as small as these batches are, they are scored in parts too
    recipe = AgentArguments(adapters=adapters, agent_rows=rows)
    changes = {"per_device_train_batch_size": int(batch), "optim": "sgd", "learning_rate": 1.0}
    trainer = make_agents(Path(folder), recipe, **changes)
    trainer._generate_single_turn = given_turns(trainer)
    trainer.train()
    trainer.save_model()
    trainer.close()


if __name__ == "__main__":
    main()
