"""Flags of the multi-agent recipes beside those that every recipe has."""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from aflow_ops.agents.speakers import EXECUTOR
from aflow_ops.errors import UsageError
from aflow_ops.executor import check_key
from recipes.settings.arguments import RecipeArguments
from recipes.settings.parse import Arguments
from recipes.settings.recipe import recipe_arguments
from recipes.settings.replay import ReplayArguments

ADAPTERS = ("shared", "per_agent")
ROWS = ("episode", "turn")
# Losses of TRL that average a row's tokens before they average rows.
ROW_LOSSES = ("grpo", "sapo")


@dataclass
class AgentArguments(RecipeArguments):
    """What a multi-agent recipe needs: how rewards add up, who trains, and what an episode may use.

    Args:
        alpha (`float`): weight of the team's reward in each agent's: `alpha * team + local`.
        adapters (`str`): one LoRA for all roles, or one each over one base.
        agent_rows (`str`): a training row is all of an agent's episode, or one turn of it.
        train_agents (`list[str]`): roles that train; all by default.
        alternate (`int`): train one role at a time, for so many steps each; 0 all at once.
        agent_models (`list[str]`): roles that another model plays, as `role=executor`; they do not train.
    """

    # Of workflows: agents write none.
    without_use = frozenset(
        {
            *(setting.name for setting in fields(ReplayArguments)),
            *(
                setting.name
                for setting in fields(RecipeArguments)
                if setting.name.startswith(("wa_", "judge", "collapse_"))
            ),
            *("reward_funcs", "level_weight", "shape_entropy_coef", "prompt_style", "workflow_timeout", "operators"),
            "rollouts_ahead",
        }
    )

    alpha: float = field(default=1.0, metadata={"help": "An agent's reward is alpha * team + local."})
    adapters: str = field(
        default="shared",
        metadata={
            "help": "'shared': one LoRA, the role is in the prompt. 'per_agent': one LoRA each, the base once in "
            "memory.",
            "choices": list(ADAPTERS),
        },
    )
    agent_rows: str = field(
        default="episode",
        metadata={
            "help": "'episode': a training row is all that an agent said in an episode. 'turn': it is one turn; an "
            "episode weighs as much however many it took.",
            "choices": list(ROWS),
        },
    )
    train_agents: list[str] = field(
        default_factory=list, metadata={"help": "Roles that train; the others stay as they are. All by default."}
    )
    alternate: int = field(default=0, metadata={"help": "Train one role at a time, for so many steps; 0 all at once."})
    agent_models: list[str] = field(
        default_factory=list,
        metadata={"help": "Roles that the executor plays, as role=executor; they do not train."},
    )
    episode_turns: int = field(default=0, metadata={"help": "Most turns of one episode; 0 the recipe's own limit."})
    episode_tokens: int = field(
        default=0, metadata={"help": "Most tokens that are written in one episode; 0 the recipe's own limit."}
    )
    episode_seconds: float = field(
        default=0.0,
        metadata={"help": "Most seconds of one episode outside of the models' turns; 0 the recipe's own limit."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.train_agents, self.agent_models = _listed(self.train_agents), _listed(self.agent_models)
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha={self.alpha} must be a number of at least 0")
        for name, known in (("adapters", ADAPTERS), ("agent_rows", ROWS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}")
        for name in ("alternate", "episode_turns", "episode_tokens", "episode_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for given in self.agent_models:
            if not given.endswith(f"={EXECUTOR}"):
                raise ValueError(f"agent_models={given!r} must be role={EXECUTOR}")

    @property
    def given_away(self) -> list[str]:
        """Roles that the executor plays."""
        return [given.partition("=")[0] for given in self.agent_models]

    def trained(self, roles: Sequence[str]) -> list[str]:
        """Return the roles that train, in the recipe's order.

        Args:
            roles (`Sequence[str]`): of the recipe.

        Raises:
            UsageError: a flag names a role that there is not, or none is left to train.
        """
        for flag, names in (("train_agents", self.train_agents), ("agent_models", self.given_away)):
            for name in names:
                if name not in roles:
                    raise UsageError(f"--{flag} {name}: no such role; there are {', '.join(roles)}")
        both = set(self.train_agents) & set(self.given_away)
        if both:
            raise UsageError(f"--train_agents {', '.join(sorted(both))}: the executor plays it and does not train")
        chosen = [name for name in roles if name in (self.train_agents or roles) and name not in self.given_away]
        if not chosen:
            raise UsageError(f"--agent_models {' '.join(self.agent_models)}: no role is left to train")
        return chosen


def _listed(words: Sequence[str]) -> list[str]:
    """Words as they are given: apart, or in one with commas between them."""
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


A = TypeVar("A", bound=AgentArguments)


def agent_arguments(
    default_config: str,
    description: str | None,
    recipe_class: type[A],
    domains: Collection[str],
    defaults: Mapping[str, Any],
    roles: Sequence[str],
) -> Arguments[A]:
    """Read what a multi-agent recipe is told; refuse what cannot work before anything is loaded.

    The loss is a mean over rows if nothing else is asked for; a key is needed only where the executor has a role.

    Args:
        default_config (`str`): as for `recipe_arguments`.
        description (`str`, *optional*): likewise.
        recipe_class (`type`): the recipe's flags.
        domains (`Collection[str]`): those that the recipe is for.
        defaults (`Mapping[str, Any]`): the recipe's own defaults, by flag.
        roles (`Sequence[str]`): the recipe's.

    Raises:
        UsageError: a bad flag, a role that there is not, a missing key.
    """
    args = recipe_arguments(
        default_config,
        description,
        domains=domains,
        defaults={"loss_type": "grpo", **defaults},
        recipe_class=recipe_class,
        needs_key=False,
    )
    args.recipe.trained(roles)
    if args.recipe.given_away:
        check_key(args.executor)
    if args.training.temperature_final is not None:
        raise UsageError(
            f"temperature_final={args.training.temperature_final:g}: agents keep one temperature; leave it out"
        )
    if args.training.loss_type not in ROW_LOSSES:
        raise UsageError(
            f"loss_type={args.training.loss_type!r}: long episodes would weigh more; use {' or '.join(ROW_LOSSES)}"
        )
    warn_of_lone_episodes(getattr(args.recipe, "counterfactual", 0.0), args.training.num_generations)
    return args


def warn_of_lone_episodes(counterfactual: float, episodes: int) -> None:
    """Say so where an agent that is paid in a share of the episodes has nothing to be compared with.

    Args:
        counterfactual (`float`): the share; 0 where no agent is paid so.
        episodes (`int`): of one problem.
    """
    if counterfactual and int(episodes * counterfactual + 1e-9) < 2:  # as `Agents.chosen` counts
        print(
            f"warning: counterfactual={counterfactual:g} of num_generations={episodes} episodes pays its agent in less "
            f"than two of a problem's, and it learns nothing; use --counterfactual {min(1.0, 2 / episodes):g} or more",
            file=sys.stderr,
        )
