"""How a model that proposes is asked: to modify a workflow, or for a design, as the policy is in training."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from aflow_ops.executor.types import Message
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from aflow_ops.search.edit_prompt import MAX_REPLY_CHARS, edit_messages, read_reply, with_kept_prompts
from aflow_ops.search.expand import Context, Proposal
from aflow_ops.search.node import Form
from data.problem import Domain, ProblemView

Refused = Sequence[tuple[Proposal, str]]


class Prompting(Protocol):
    """What a model is asked, and how its reply is read."""

    @property
    def form(self) -> Form:
        """What the training rows are called."""
        ...

    def problem(self, context: Context) -> str | None:
        """Return the id of the problem that is asked about, if it is one."""
        ...

    def messages(self, context: Context, refused: Refused) -> list[Message]:
        """Return the chat."""
        ...

    def read(self, context: Context, reply: str) -> tuple[str, str]:
        """Return the modification's name, and the text that should hold the workflow."""
        ...


class EditPrompting:
    """Asks for one modification of the parent (`edit_prompt.py`).

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point, of each kind of problem.
        offered (`Mapping[str, str]`, *optional*): no other operators than these, each with what is said of it.
    """

    form: Form = "edit"

    def __init__(self, kinds: Sequence[tuple[Domain, bool]], offered: Mapping[str, str] | None = None) -> None:
        self.kinds, self.offered = tuple(kinds), offered

    def problem(self, context: Context) -> str | None:
        """Return none: it is asked about all."""
        return None

    def messages(self, context: Context, refused: Refused) -> list[Message]:
        """Return the parent with what is known of it, and what was wrong with earlier replies."""
        return edit_messages(context, self.kinds, refused, self.offered)

    def read(self, context: Context, reply: str) -> tuple[str, str]:
        """Take the modification out of its tag, and add the parent's prompts that the reply uses as they are."""
        modification, completion = read_reply(reply)
        return modification or "no modification was named", with_kept_prompts(completion, context.parent.prompts)


class DesignPrompting:
    """Asks for a workflow for one problem, with the policy's own prompt; what was found before is not shown.

    Args:
        problems (`Mapping[str, ProblemView]`): the validation problems by id; proposals go through them in turn.
        style (`str`): of the prompt, as the policy was trained.
    """

    form: Form = "design"

    def __init__(self, problems: Mapping[str, ProblemView], style: PromptStyle) -> None:
        self.problems, self.style = dict(problems), style

    def problem(self, context: Context) -> str:
        """Return the problem whose turn it is."""
        return list(self.problems)[context.sample % len(self.problems)]

    def messages(self, context: Context, refused: Refused) -> list[Message]:
        """Return the policy's prompt; after a refusal too, for another sample."""
        return policy_messages(self.problems[self.problem(context)], self.style)

    def read(self, context: Context, reply: str) -> tuple[str, str]:
        """Take the whole reply."""
        return f"a design for {self.problem(context)}", reply[:MAX_REPLY_CHARS]
