"""Flags of the loop of search and training."""

from dataclasses import dataclass, field, fields

from aflow_ops.errors import UsageError
from aflow_ops.search.select import Strategy
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.replay import ReplayArguments

# Who proposes: the policy, asked to modify a workflow or for a design with its own prompt, or the grammar.
PROPOSERS = ("edit", "design", "grammar")


@dataclass
class SearchLoopArguments(RecipeArguments):
    """What `recipes/grpo_search.py` is told beside the flags of the other GRPO recipes.

    An epoch goes once through `episodes * problems_per_episode` training problems, so `num_train_problems` is that.

    Args:
        loop_epochs (`int`, defaults to 3): times that every training problem has its turn.
        episodes (`int`, defaults to 3): of an epoch; each searches, and trains on what it found.
        problems_per_episode (`int`, defaults to 5): that an episode searches workflows for, each by itself.
        search_iterations (`int`, defaults to 10): workflows proposed for a problem in an episode.
        search_rounds (`int`, defaults to 5): in which they are proposed, equally many at once.
        search_sample (`int`, defaults to 3): workflows that parents are drawn from, the first one included.
        proposers (`list[str]`): whose turn it is, round by round.
        grpo_epochs (`int`, defaults to 3): of an episode's training.
        runs_per_workflow (`int`, defaults to 1): of each on its problem; its reward is their mean.
        trajectories_per_problem (`int`, defaults to 16): different workflows of a prompt that are trained on.
        kl_where_positive (`bool`): the KL term counts where the advantage is positive only.
    """

    # What is trained on was found by searches, and is neither sampled nor rewarded in the steps.
    without_use = frozenset(
        {
            *({setting.name for setting in fields(ReplayArguments)} - {"replay_shaping", "replay_task_line"}),
            *("reward_funcs", "rollouts_ahead", "heldout_every", "curriculum", "curriculum_rows", "collapse_patience"),
        }
    )

    loop_epochs: int = field(default=3, metadata={"help": "Times that every training problem has its turn."})
    episodes: int = field(default=3, metadata={"help": "Episodes of an epoch: each searches, then trains."})
    problems_per_episode: int = field(default=5, metadata={"help": "Problems of an episode, each searched by itself."})
    search_iterations: int = field(default=10, metadata={"help": "Workflows proposed for a problem in an episode."})
    search_rounds: int = field(default=5, metadata={"help": "Rounds in which they are proposed, equally many at once."})
    search_sample: int = field(
        default=3, metadata={"help": "Workflows that parents are drawn from, the first one included (AFlow's sample)."}
    )
    search_selection: Strategy = field(
        default="aflow",
        metadata={
            "help": "Which workflow is modified next.",
            "choices": ["aflow", "uct", "greedy", "random"],
        },
    )
    proposers: list[str] = field(
        default_factory=lambda: ["edit", "design"],
        metadata={
            "help": "Who proposes, round by round: the policy, asked to modify a workflow ('edit') or with its own "
            "prompt ('design'), or 'grammar', which needs no model."
        },
    )
    grpo_epochs: int = field(default=3, metadata={"help": "Times that an episode trains on what it found."})
    runs_per_workflow: int = field(default=1, metadata={"help": "Runs of each workflow; its reward is their mean."})
    trajectories_per_problem: int = field(
        default=16, metadata={"help": "Different workflows of a prompt that are trained on, good and bad ones."}
    )
    kl_where_positive: bool = field(
        default=False, metadata={"help": "Count the KL term (--beta) only where the advantage is positive (SPOGW)."}
    )
    collapse_patience: int = field(default=0, metadata={"help": "Of no use here: nothing is sampled in training."})

    def __post_init__(self) -> None:
        for name in (
            "loop_epochs", "episodes", "problems_per_episode", "search_rounds", "search_sample", "grpo_epochs",
            "runs_per_workflow", "trajectories_per_problem",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.search_iterations < self.search_rounds or self.search_iterations % self.search_rounds:
            raise ValueError(
                f"search_iterations={self.search_iterations} must be a multiple of search_rounds={self.search_rounds}: "
                "a round proposes equally many"
            )
        unknown = [name for name in self.proposers if name not in PROPOSERS]
        if unknown or not self.proposers:
            raise ValueError(f"proposers={self.proposers} must be some of {', '.join(PROPOSERS)}")
        self.num_train_problems = self.episodes * self.problems_per_episode
        super().__post_init__()

    @property
    def at_once(self) -> int:
        """Proposals of a round."""
        return self.search_iterations // self.search_rounds

    @property
    def all_episodes(self) -> int:
        """Episodes of all epochs."""
        return self.loop_epochs * self.episodes


def check_loop(training: WorkflowGRPOConfig) -> None:
    """Refuse training settings that the loop has no use for.

    Raises:
        UsageError: names the flag and what to give instead.
    """
    schedule = str(getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type))
    refused = {
        f"--max_steps {training.max_steps}": (training.max_steps > 0, "epochs and episodes decide how long it trains"),
        f"--lr_scheduler_type {schedule}": (
            not schedule.startswith("constant"),
            "how many steps there will be is not known before; use constant or constant_with_warmup",
        ),
        f"--warmup_steps {training.warmup_steps}": (
            0 < training.warmup_steps < 1,
            "a share of how many steps there will be, which is not known before; give a number of steps",
        ),
        f"--temperature_final {training.temperature_final}": (
            training.temperature_final is not None,
            "what is sampled and what is trained on must have one temperature",
        ),
        "--use_vllm": (training.use_vllm, "the policy proposes in the training process; leave it out"),
        f"--importance_sampling_level {training.importance_sampling_level}": (
            training.importance_sampling_level != "token",
            "given rows are weighted by token; use token",
        ),
    }
    for flag, (wrong, why) in refused.items():
        if wrong:
            raise UsageError(f"{flag}: {why}")
