"""The model card of a published policy: what a stranger needs to use it, and how good it is.

The text is `model_card.md`; the metadata is `huggingface_hub.ModelCardData`, with the held-out results as model-index.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from aflow_ops.domains import domain_prompt
from data.benchmarks import benchmarks
from data.domains import DOMAINS, default_domain
from data.problem import ProblemView
from data.registry import DEFAULT_SOURCES, SOURCES
from recipes.run.role_adapters import RoleAdapters, is_split
from recipes.run.routers import NAMES

TEMPLATE = Path(__file__).with_name("model_card.md")
TEAM_TEMPLATE = Path(__file__).with_name("team_card.md")
TAGS = ("aflow", "agent-workflows", "grpo", "reinforcement-learning", "trl")
TEAM_TAGS = ("aflow", "multi-agent", "grpo", "reinforcement-learning", "trl")
# What a shell reads in double quotes.
_SPECIAL, _ESCAPED = re.compile(r'(["\\$`])'), r"\\\1"


@dataclass(frozen=True)
class BaseModel:
    """The model that an adapter belongs to.

    Args:
        name (`str`): how the scripts call it: a Hub name, or `"you/name/base_model"` when it travels with the adapter.
        repo_id (`str`): repository that has it.
        subfolder (`str`): folder of that repository, empty for its top.
        revision (`str`, *optional*): branch or commit that the run used.
    """

    name: str
    repo_id: str
    subfolder: str = ""
    revision: str | None = None


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Args:
        hub_model_id (`str`): where the policy is published.
        base (`BaseModel`, *optional*): `None` for a policy that was trained or merged whole.
        origin (`str`, *optional*): repository on the Hub that the policy was made from, if it was.
        config (`Mapping[str, Any]`): the published `config.yaml`, empty for a run that has none.
        summary (`Mapping[str, Any]`): the run's `summary.json`, empty for a run that did not finish.
        license (`Mapping[str, str]`): `license`, `license_name` and `license_link` as on the Hub, as far as known.
        files (`Sequence[str]`): what lies beside the card.
        roles (`Mapping[str, str | None]`): of a team, the adapter of each role; empty where workflows are written.
        recipe (`str`): the recipe's file.
    """

    hub_model_id: str
    base: BaseModel | None
    origin: str | None
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    license: Mapping[str, str]
    files: Sequence[str]
    roles: RoleAdapters = field(default_factory=dict)
    recipe: str = ""

    @property
    def heldout(self) -> Mapping[str, Any]:
        """The held-out results, empty when there are none."""
        found: Mapping[str, Any] = self.summary.get("heldout") or {}
        return found

    @property
    def sources(self) -> list[str]:
        """Problem sources of the run."""
        named = self.config and "trajectories" not in self.summary  # what they are of, they say themselves
        default = DEFAULT_SOURCES if named else ()
        return list(self.config.get("sources", default))

    @property
    def method(self) -> str:
        """How it was trained, as what the run left tells."""
        if "iterations" in self.summary:
            return "with Score-DPO, on pairs of workflows that were run and graded"
        if "trajectories" in self.summary:
            return "with GRPO on trajectories, workflows that had been run and graded before"
        return "with GRPO, rewarded by running its workflows and\ngrading their answers"

    @property
    def example(self) -> ProblemView:
        """A small problem of a domain that the policy was trained on; a domain that is not known here has only its name
        to show."""
        domains = self.heldout.get("by_domain") or DOMAINS
        known = next((name for name in DOMAINS if name in domains), None)
        return ProblemView("Your problem.", next(iter(domains))) if known is None else domain_prompt(known).sample


def model_card(facts: CardFacts) -> ModelCard:
    """Return the card; its metadata went through `huggingface_hub`'s own reading and writing."""
    config, routers = facts.config, facts.heldout.get("routers") or {}
    return ModelCard.from_template(
        card_metadata(facts),
        template_str=(TEAM_TEMPLATE if facts.roles else TEMPLATE).read_text(encoding="utf-8"),
        facts=facts,
        split=is_split(facts.roles),
        rows=result_rows(facts.heldout),
        baselines=sorted((facts.heldout.get("baselines") or {}).items(), key=lambda item: -item[1]),
        routers=[{"name": NAMES[name], **routers[name]} for name in NAMES if name in routers],
        sources=[describe_source(name) for name in facts.sources],
        style=facts.summary.get("prompt_style") or config.get("prompt_style", "full"),
        executor=config.get("executor_model", "gpt-4o-mini") if config else None,
        sampling={
            "max_new_tokens": config.get("max_completion_length", 1024),
            "temperature": config.get("eval_temperature", 0.15),
            "top_p": config.get("top_p", 1.0),
            "top_k": config.get("top_k", 0),
        },
        example=in_python(facts.example),
        example_flags=as_flags(facts.example),
        usage=facts.summary.get("executor") or {},
        training_seconds=(facts.summary.get("seconds") or {}).get("training"),
    )


def in_python(problem: ProblemView) -> str:
    """Return the expression that makes a problem.

    Example:

        >>> in_python(ProblemView("Double x.", "code", entry_point="double"))
        'ProblemView(question="Double x.", domain="code", entry_point="double")'
    """
    given = {name: getattr(problem, name) for name in ("question", "domain", "entry_point", "context")}
    return f"ProblemView({', '.join(f'{name}={json.dumps(value)}' for name, value in given.items() if value)})"


def as_flags(problem: ProblemView) -> str:
    """Return a problem as flags of `scripts/run_workflow.py`; its context is in a file.

    Example:

        >>> as_flags(ProblemView("What does `f` return?", "qa", "f returns 3."))
        '--question "What does \\\\`f\\\\` return?" --domain qa --context_file passage.txt'
    """
    flags = [f'--question "{_SPECIAL.sub(_ESCAPED, problem.question)}"']
    if problem.domain != default_domain(has_entry_point=False):
        flags.append(f"--domain {problem.domain}")
    if problem.entry_point:
        flags.append(f"--entry_point {problem.entry_point}")
    if problem.context:
        flags.append("--context_file passage.txt")
    return " ".join(flags)


def card_metadata(facts: CardFacts) -> ModelCardData:
    """Return the metadata block. Only what is on the Hub is named in it: a base model or dataset by its repository."""
    known = benchmarks()
    datasets = sorted({known[name].repo for name in facts.sources if name in known})
    return ModelCardData(
        base_model=facts.origin,
        language="en",
        library_name="peft" if facts.base is not None else "transformers",
        pipeline_tag="text-generation",
        tags=list(TEAM_TAGS if facts.roles else TAGS),
        datasets=datasets or None,
        model_name=facts.hub_model_id.split("/")[-1],
        eval_results=eval_results(facts) or None,
        **{"license": "unknown", **facts.license},
    )


def eval_results(facts: CardFacts) -> list[EvalResult]:
    """Return the held-out rewards of the trained policy as model-index entries, all problems first."""
    if not facts.heldout:
        return []
    parts = {"all": facts.heldout, **(facts.heldout.get("by_domain") or {})}
    sources = ", ".join(facts.sources)
    results = []
    for domain, numbers in parts.items():
        common: dict[str, Any] = {
            "task_type": "text-generation",
            "task_name": "Multi-agent" if facts.roles else "Workflow design",
            "dataset_type": f"aflow-heldout-{domain}",
            "dataset_name": f"held-out problems, {domain}" + (f" ({sources})" if sources else ""),
            "dataset_split": "heldout",
        }
        values = {"mean_reward": numbers["after"]}
        names = {"mean_reward": "mean reward, 0 to 1", "valid_workflows": "share of valid workflows"}
        if not facts.roles:
            values["valid_workflows"] = numbers["valid_after"]
        results += [
            EvalResult(metric_type=metric, metric_name=names[metric], metric_value=round(value, 4), **common)
            for metric, value in values.items()
            if math.isfinite(value)
        ]
    return results


def result_rows(heldout: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the evaluation table: one row a domain, then all of them; no rows without results."""
    if not heldout:
        return []
    parts = {**(heldout.get("by_domain") or {}), "all": heldout}
    return [_result_row(name, numbers) for name, numbers in parts.items()]


def _result_row(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    baselines: Mapping[str, float] = numbers.get("baselines") or {}
    best = max(baselines, key=lambda key: baselines[key]) if baselines else None
    low, high = numbers["gain_ci95"]
    return {
        "domain": name,
        "problems": numbers["n"],
        "before": numbers["before"],
        "after": numbers["after"],
        "gain": numbers["gain"],
        "gain_ci95_low": low,
        "gain_ci95_high": high,
        "valid_before": numbers["valid_before"],
        "valid_after": numbers["valid_after"],
        "best_fixed_workflow": best,
        "best_fixed_reward": baselines[best] if best is not None else None,
    }


def describe_source(name: str) -> str:
    """Return one line about a problem source: what it is, where it is from, its licence."""
    known = benchmarks()
    if name in known:
        found = known[name]
        link = f"[{found.repo}](https://huggingface.co/datasets/{found.repo})"
        return f"`{name}`: {link} ({found.licence})"
    if name in SOURCES:
        return f"`{name}`: {SOURCES[name].about}"
    return f"`{name}`: the trainer's own problems"
