"""Flags of replay: rows of a file among those that the policy samples."""

from dataclasses import dataclass, field

BASELINES = ("on_policy", "all")


@dataclass
class ReplayArguments:
    """What online GRPO is told of trajectories to replay; without `replay` nothing of it has an effect.

    Args:
        replay (`list[str]`): files or folders that `load_trajectories` takes; `search:DIR` is a search's folder.
        replay_per_group (`int`, defaults to 1): rows of a group that are replayed at most; the others are sampled.
        replay_share (`float`, defaults to 1.0): largest share of a step's groups that get any.
        replay_start (`float`, defaults to 0.0): success rate of the policy from which on there is replay.
        replay_baseline (`str`, defaults to `"on_policy"`): whose rewards are a group's mean.
        replay_shaping (`float`, defaults to 0.1): gamma of `f(pi) = pi / (pi + gamma)` for foreign rows.
        replay_task_line (`bool`, defaults to `False`): foreign rows name the kind of task, as a warm start teaches it.
    """

    replay: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Trajectories to mix into the groups: files or folders of a search (search:DIR), a run or an "
            "evaluation. Nothing is replayed without."
        },
    )
    replay_per_group: int = field(
        default=1, metadata={"help": "Rows of a group that come from the trajectories at most; the rest are sampled."}
    )
    replay_share: float = field(
        default=1.0,
        metadata={
            "help": "Largest share of a step's groups that get replayed rows; problems near half solved come first, "
            "solved ones get none."
        },
    )
    replay_start: float = field(
        default=0.0,
        metadata={"help": "Replay begins once this share of the sampled workflows of a step is right (ExGRPO: 0.35)."},
    )
    replay_baseline: str = field(
        default="on_policy",
        metadata={
            "help": "Rewards that a group's mean is taken over: of sampled rows only, or of all.",
            "choices": list(BASELINES),
        },
    )
    replay_shaping: float = field(
        default=0.1,
        metadata={"help": "gamma of f(pi) = pi / (pi + gamma), the weight of rows that another policy wrote (LUFFY)."},
    )
    replay_task_line: bool = field(
        default=False,
        metadata={
            "help": "Name the kind of task in a comment of every workflow that another policy wrote: for a policy "
            "whose warm start had --task_line, and which begins each workflow with one."
        },
    )

    def check_replay(self) -> None:
        """Refuse values that have no meaning.

        Raises:
            ValueError: names the flag.
        """
        if self.replay_per_group < 1:
            raise ValueError(f"replay_per_group={self.replay_per_group} must be at least 1; leave out replay for none")
        if not 0 < self.replay_share <= 1:
            raise ValueError(f"replay_share={self.replay_share} must be above 0 and at most 1")
        if not 0 <= self.replay_start <= 1:
            raise ValueError(f"replay_start={self.replay_start} must be from 0 to 1")
        if self.replay_baseline not in BASELINES:
            raise ValueError(f"replay_baseline={self.replay_baseline!r} must be one of {', '.join(BASELINES)}")
        if not self.replay_shaping > 0:
            raise ValueError(f"replay_shaping={self.replay_shaping} must be above 0")
