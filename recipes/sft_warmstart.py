"""Supervised warm start: teach a base model the workflow language before GRPO teaches it which workflows pay.

    accelerate launch recipes/sft_warmstart.py --model_name_or_path Qwen/Qwen2.5-1.5B --output_dir outputs/warm
    python scripts/merge_adapter.py outputs/warm --output outputs/warm_merged
    accelerate launch recipes/grpo_mixed.py --model_name_or_path outputs/warm_merged

The examples are problems paired with workflows of `data/workflow_corpus.yaml` that fit their domain, drawn evenly: the
model learns to write every design and to prefer none. Operators of your own (`--operators`) are in its prompt, and are
taught by workflows of your own (`--corpus`). With `--trajectories outputs/search/NAME` a part of the examples is what a
search found best for its problems. With `--from_scratch` it first builds the tiny policy of
`recipes/policy/tiny.py`.
"""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from trl import ModelConfig, SFTConfig

from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.language import parse_workflow
from aflow_ops.operators import load_operators
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from data.corpus import CorpusWorkflow, corpus_pairs, read_corpus, with_task_line
from data.domains import DOMAINS, domain_row
from data.mixing import parse_mix
from data.problem import Problem
from data.registry import DEFAULT_SOURCES, iter_problems
from data.trajectories import Trajectory
from data.trajectory_sets import statistics
from recipes.run.command import run_command
from recipes.settings.base_policy import BasePolicyArguments
from recipes.settings.chosen import RunConfig
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import parse_with_config
from recipes.settings.places import from_here_or_project
from recipes.training.experience import Caps, cap, load_trajectories, same_workflow
from recipes.training.problems import mixed_problems
from recipes.training.supervised import check_teaching, taught_rows, teach
from rewards.tiers import TIER_REWARDS


@dataclass
class WarmStartArguments(BasePolicyArguments):
    """What the warm start needs beside TRL's flags.

    Args:
        sources (`list[str]`): problem sources by name, or JSONL files; trajectories are of their training part.
        domain_mix (`str`): share of each domain.
        num_examples (`int`): problem-workflow pairs.
        forms (`list[str]`): forms of the corpus to teach, among `short`, `dsl` and `native`.
        task_line (`bool`): whether a comment in the workflow names the kind of task (`# math: Calculate`).
        operators (`list[str]`): modules or files that register operators (`aflow_ops/operators/registry.py`).
        corpus (`list[str]`): files of workflows beside the corpus, in its form (`data/corpus.py`).
        leave_out (`list[str]`): `DOMAIN:OPERATOR`, where no workflow that calls the operator is taught for the domain.
        trajectories (`list[str]`): files or folders with workflows that earned something (`data/trajectories.py`).
        trajectory_share (`float`): share of the examples that are taken from them.
        trajectory_reward (`float`): least reward of such an example.
        trajectories_per_problem (`int`): different workflows of a problem, the best ones.
        trajectories_per_workflow (`int`): problems that one workflow is learnt on.
    """

    sources: list[str] = field(
        default_factory=lambda: list(DEFAULT_SOURCES),
        metadata={"help": "Problem sources: names of data/registry.py, or JSONL files."},
    )
    domain_mix: str = field(default="math=0.34,qa=0.33,code=0.33", metadata={"help": "Share of each domain."})
    num_examples: int = field(default=1000, metadata={"help": "Problem-workflow pairs to train on."})
    forms: list[str] = field(
        default_factory=lambda: ["short", "dsl", "native"], metadata={"help": "Forms of the corpus to teach."}
    )
    prompt_style: PromptStyle = field(
        default="full", metadata={"help": "Policy prompt, as in the GRPO recipes.", "choices": ["full", "brief"]}
    )
    task_line: bool = field(
        default=False,
        metadata={
            "help": "Teach to name the kind of task, in the problem's own words, in the workflow's first comment."
        },
    )
    operators: list[str] = field(
        default_factory=list,
        metadata={"help": "Operators of your own: package.module, file.py, or one class as package.module:Class."},
    )
    corpus: list[str] = field(
        default_factory=list,
        metadata={"help": "Workflows of your own to teach too: YAML files like data/workflow_corpus.yaml."},
    )
    leave_out: list[str] = field(
        default_factory=list,
        metadata={
            "help": "DOMAIN:OPERATOR, e.g. math:Programmer: teach that domain no workflow that calls the operator."
        },
    )
    trajectories: list[str] = field(
        default_factory=list,
        metadata={"help": "Also teach what did best in these: files or folders of a search, a run or an evaluation."},
    )
    trajectory_share: float = field(default=0.5, metadata={"help": "Share of the examples taken from trajectories."})
    trajectory_reward: float = field(
        default=TIER_REWARDS[4], metadata={"help": "Least reward of a workflow that is taken."}
    )
    trajectories_per_problem: int = field(
        default=2, metadata={"help": "Different workflows taken of a problem, the best ones."}
    )
    trajectories_per_workflow: int = field(
        default=32, metadata={"help": "Problems that one workflow is taken for, so that no design drowns the rest."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check flags, files and problems, and stop."})

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_mix(self.domain_mix)
        for entry in self.leave_out:
            domain, _, operator = entry.partition(":")
            if domain not in DOMAINS or not operator:
                raise ValueError(f"leave_out={entry!r} must be DOMAIN:OPERATOR, e.g. math:Programmer")
        for name in ("num_examples", "trajectories_per_problem", "trajectories_per_workflow"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("trajectory_share", "trajectory_reward"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to 1")

    @property
    def from_trajectories(self) -> int:
        """How many examples are taken from trajectories."""
        return round(self.num_examples * self.trajectory_share) if self.trajectories else 0


def warm_start_pairs(args: WarmStartArguments, seed: int) -> list[tuple[Problem, str]]:
    """Return problems with the completion that the policy should write for them: every shape of workflow equally often.

    They are `num_examples` without what is taken from trajectories.

    A domain's shapes are its sequences of operators, so that an operator that many texts of the corpus use is drawn no
    more often than one that few do.
    """
    count = args.num_examples - args.from_trajectories
    if not count:
        return []
    problems = mixed_problems(args.sources, parse_mix(args.domain_mix), count, "train", seed)
    more = [workflow for file in args.corpus for workflow in own_workflows(from_here_or_project(file))]

    def left_out(workflow: CorpusWorkflow, problem: Problem) -> bool:
        return any(f"{problem.domain}:{name}" in args.leave_out for name in _operators(workflow, problem))

    pairs = corpus_pairs(problems, seed=seed, forms=args.forms, shape=_operators, more=more, left_out=left_out)
    texts = [
        (problem, with_task_line(problem, workflow.text) if args.task_line else workflow.text)
        for problem, workflow in pairs
    ]
    return [(problem, f"```python\n{text}\n```") for problem, text in texts]


def own_workflows(file: Path) -> tuple[CorpusWorkflow, ...]:
    """Read workflows of the user's own; each must be one, without a repair, in all of its domains.

    Raises:
        UsageError: one of them is no workflow as it stands; names it and says why.
        DataError: the file is not like the corpus's.
    """
    workflows = read_corpus(file)
    for item in workflows:
        for domain in item.domains:
            try:
                workflow = parse_workflow(item.text, domain=domain, has_entry_point=domain_row(domain).has_tests)
            except WorkflowError as error:
                raise UsageError(f"--corpus {file}: {item.name} is no {domain} workflow: {error}") from None
            if workflow.repairs or workflow.form != item.form:
                found = "; ".join(workflow.repairs) or f"it is of the form {workflow.form}, not {item.form}"
                raise UsageError(f"--corpus {file}: {item.name} would be taught with a fault: {found}")
    return workflows


def _operators(workflow: CorpusWorkflow, problem: Problem) -> tuple[str, ...]:
    has_entry_point = problem.entry_point is not None
    return parse_workflow(workflow.text, domain=problem.domain, has_entry_point=has_entry_point).operators


def best_trajectories(args: WarmStartArguments, seed: int) -> list[Trajectory]:
    """Return what is taught from trajectories: the best designs of each problem, no workflow for too many of them.

    All are taken once before any is taken twice.

    Raises:
        UsageError: none earned `trajectory_reward`.
        DataError: a file cannot be read, or has held-out problems.
    """
    if not args.trajectories:
        return []
    heldout, train = (
        [row for source in args.sources for row in islice(iter_problems(source, part, seed), args.num_examples)]
        for part in ("heldout", "train")
    )
    rows = load_trajectories(
        args.trajectories, heldout=heldout, problems=train, style=args.prompt_style, task_line=args.task_line
    )
    designs = [row for row in rows if row.form == "design" and row.outcome == "ok"]
    good = [row for row in designs if row.reward >= args.trajectory_reward]
    if not good:
        raise UsageError(
            f"--trajectories {' '.join(args.trajectories)}: none earned {args.trajectory_reward:g}; lower "
            "--trajectory_reward, or search for longer"
        )
    kept = cap(good, Caps(args.trajectories_per_problem, args.trajectories_per_workflow, "best"), designs)
    print(f"trajectories: {statistics(kept, same_workflow).line()}", file=sys.stderr)
    rng, taken = random.Random(seed), list[Trajectory]()
    while len(taken) < args.from_trajectories:
        taken += rng.sample(kept, len(kept))
    return taken[: args.from_trajectories]


def warm_start_dataset(
    pairs: list[tuple[Problem, str]], prompt_style: PromptStyle, trajectories: Sequence[Trajectory] = ()
) -> Dataset:
    """Return pairs and trajectories as TRL's conversational prompt-completion rows."""
    prompts: list[Sequence[Mapping[str, object]]] = []
    prompts += [policy_messages(problem.view, style=prompt_style) for problem, _ in pairs]
    prompts += [row.prompt for row in trajectories]
    return taught_rows(prompts, [*(text for _, text in pairs), *(row.completion for row in trajectories)])


def main() -> None:
    """Train and save; the output folder appears only when it is complete."""
    quiet_libraries()
    args, training, model = parse_with_config(
        (WarmStartArguments, SFTConfig, ModelConfig), "sft_warmstart.yaml", __doc__
    )
    load_operators(args.operators)
    check_teaching(args, training, model)
    config = RunConfig.of(__file__, args, training, model)
    pairs = warm_start_pairs(args, training.seed)
    found = best_trajectories(args, training.seed)
    if args.dry_run:
        print(f"dry run: {len(pairs) + len(found)} examples for {training.output_dir}; nothing was started")
        return
    teach(warm_start_dataset(pairs, args.prompt_style, found), args, training, model, config)
    if PartialState().is_main_process:
        merged = f"; GRPO takes it merged: python scripts/merge_adapter.py {training.output_dir} --output FOLDER"
        print(f"warm-started policy in {training.output_dir}{merged if model.use_peft else ''}")


if __name__ == "__main__":
    sys.exit(run_command(main))
