"""Expand a node: ask a proposer for one modification, check it, and give it a few chances to be repaired.

Whatever comes of it is kept: a proposal that is no workflow, or that was tried before, is a rejected node with its
reason, so that no idea is paid for twice without anybody knowing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from aflow_ops.errors import CallRefusedError, WorkflowError
from aflow_ops.language import Workflow
from aflow_ops.language.prompt_code import PromptCode
from aflow_ops.search.canonical import workflow_key
from aflow_ops.search.node import Attempt, Node, Origin, Sample, Spend

MAX_REPAIRS = 3
# A node keeps so much of a reply that is no workflow, and of a modification's description.
MAX_KEPT_CHARS, MAX_MODIFICATION_CHARS = 4_000, 500

# From a completion to a workflow that is valid for the problems of the search; raises `WorkflowError`.
Check = Callable[[str], Workflow]


@dataclass(frozen=True)
class Failure:
    """A problem that the parent did not solve, as the proposer is shown it.

    Args:
        problem (`str`): its text, never its gold answer.
        sample (`Sample`): what the parent's run on it came to.
    """

    problem: str
    sample: Sample


@dataclass(frozen=True)
class Context:
    """What a proposer may know.

    Args:
        parent (`Node`): what to modify.
        score (`float`): the parent's.
        children (`tuple[tuple[str, float | None], ...]`): modifications that were tried on the parent, each with the
            score that it led to; `None` for one that did not run, which says why.
        failures (`tuple[Failure, ...]`): a few problems that the parent did not solve.
        others (`tuple[Node, ...]`): all other scored nodes, the best first, for proposers that combine two workflows.
        sample (`int`): number of the proposal, which tells equal requests apart.
    """

    parent: Node
    score: float
    children: tuple[tuple[str, float | None], ...] = ()
    failures: tuple[Failure, ...] = ()
    others: tuple[Node, ...] = ()
    sample: int = 0


@dataclass(frozen=True)
class Proposal:
    """What a proposer wrote.

    Args:
        completion (`str`): text that should hold a workflow.
        modification (`str`): what it changes, in a sentence.
        tokens (`int`): that it took to write.
        cost_usd (`float`): their price.
        attempt (`Attempt`, *optional*): what a model was asked and wrote, for training.
        origin (`str`, *optional*): who wrote it, where that is not always the same (`turns.py`).
    """

    completion: str
    modification: str
    tokens: int = 0
    cost_usd: float = 0.0
    attempt: Attempt | None = None
    origin: Origin | None = None


class Proposer(Protocol):
    """Proposes modifications of a workflow."""

    @property
    def origin(self) -> Origin:
        """What its nodes' `origin` says."""
        ...

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        """Propose one modification.

        Args:
            context (`Context`): the parent and what is known of it.
            refused (`Sequence[tuple[Proposal, str]]`): its own earlier attempts at this expansion, each with what was
                wrong with it.

        Raises:
            CallRefusedError: it does not answer this, and would not if it was asked again.
            InfraError: it could not be asked.
        """
        ...


@dataclass(frozen=True)
class Candidate:
    """A proposal that was accepted, or the reason why none was.

    Args:
        proposal (`Proposal`): the last one.
        workflow (`Workflow`, *optional*): `None` when it was rejected.
        error (`str`, *optional*): why.
        refused (`tuple[tuple[Proposal, str], ...]`): the attempts before it, each with what was wrong with it.
    """

    proposal: Proposal
    workflow: Workflow | None
    error: str | None
    refused: tuple[tuple[Proposal, str], ...] = ()

    @property
    def key(self) -> str | None:
        """The accepted program's digest."""
        return None if self.workflow is None else workflow_key(self.workflow.text, self.workflow.prompts)

    def node_parts(self) -> dict[str, Any]:
        """Return what a node says of the proposal."""
        refused = self.workflow is None
        text = self.proposal.completion[:MAX_KEPT_CHARS] if self.workflow is None else self.workflow.text
        tried = [*self.refused, (self.proposal, self.error)]
        attempts = [proposal for proposal, _ in tried]
        return {
            "modification": " ".join(self.proposal.modification.split())[:MAX_MODIFICATION_CHARS],
            "workflow": text.encode("utf-8", "replace").decode("utf-8"),
            "prompts": {} if self.workflow is None else dict(self.workflow.prompts),
            "status": "rejected" if refused else "ok",
            "error": self.error,
            "tokens": Spend(optimizer=sum(attempt.tokens for attempt in attempts)),
            "cost_usd": Spend(optimizer=sum(attempt.cost_usd for attempt in attempts)),
            "attempts": tuple(
                replace(proposal.attempt, error=error) for proposal, error in tried if proposal.attempt is not None
            ),
        }


async def expand(
    proposer: Proposer,
    context: Context,
    check: Check,
    known: Mapping[str, int],
    refused: Sequence[tuple[Proposal, str]] = (),
) -> Candidate:
    """Ask for a modification until one is accepted, at most `MAX_REPAIRS` times after the first.

    Args:
        proposer (`Proposer`): who is asked.
        context (`Context`): the parent and what is known of it.
        check (`Check`): the workflow language's verdict.
        known (`Mapping[str, int]`): nodes by the digests of their programs.
        refused (`Sequence[tuple[Proposal, str]]`): attempts that were made already.
    """
    refused = tuple(refused)
    while len(refused) <= MAX_REPAIRS:
        try:
            proposal = await proposer.propose(context, refused)
        except CallRefusedError as unanswered:
            return Candidate(Proposal("", "nothing: it was not answered"), None, f"no proposal: {unanswered}", refused)
        try:
            workflow = check(proposal.completion)
            double = known.get(workflow_key(workflow.text, workflow.prompts))
            if double is None:
                return Candidate(proposal, workflow, None, refused)
            error = same_program(double)
        except WorkflowError as wrong:
            error = str(wrong)
        refused = (*refused, (proposal, error))
    *earlier, (last, error) = refused
    return Candidate(last, None, error, tuple(earlier))


_DOUBLE = "the same program as node"


def same_program(node: int) -> str:
    """Return what a proposer is told of a program that there is already."""
    return f"{_DOUBLE} {node}: make another change"


def is_double(error: str | None) -> bool:
    """Whether a proposal was refused only for being a program that there is already (`same_program`)."""
    return error is not None and error.startswith(_DOUBLE)


def as_completion(workflow: str, prompts: Mapping[str, Any]) -> str:
    """Return a workflow with its prompts as one completion, which the language reads back.

    Args:
        workflow (`str`): its text.
        prompts (`Mapping[str, Any]`): what `prompt_custom.NAME` is, by name.
    """
    if not prompts:
        return workflow
    constants = [f"{name} = {value!r}" for name, value in prompts.items() if not isinstance(value, PromptCode)]
    files = {value.file for value in prompts.values() if isinstance(value, PromptCode)}
    block = "\n".join([*constants, *(file.text for file in files)])
    block = block.replace("</", "<\\x2f")  # what stands in a text must not end the block
    return f"<workflow>\n{workflow}\n</workflow>\n<prompt>\n{block}\n</prompt>"
