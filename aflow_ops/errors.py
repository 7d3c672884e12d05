"""The two kinds of failure, which are never mixed.

`WorkflowError` is the policy's fault and earns a low tier. `InfraError` is ours or the network's: it earns no reward at
all (`None`), so that an outage teaches the policy nothing.
"""

from typing import Literal

Stage = Literal["find", "syntax", "check"]


class WorkflowError(Exception):
    """A completion that is not a usable workflow.

    Args:
        stage (`str`):
            Where it failed: `"find"` (no workflow in the text), `"syntax"` (does not parse) or `"check"` (parses, but
            breaks a rule of the workflow language).
        reason (`str`):
            One sentence with the offending name or value, fit to be shown to a person.
    """

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


class InfraError(Exception):
    """Not the policy's fault: the rollout is left out of the group instead of being graded."""


class ExecutorError(InfraError):
    """The executor could not be reached or did not answer usefully, after all retries."""


class CallRefusedError(ExecutorError):
    """The executor refuses this one call (a content filter, a prompt that is too long), and answers others."""


class FatalExecutorError(ExecutorError):
    """The executor refuses every call (wrong key, unknown model): the run must stop instead of going on without it."""


class BudgetExceededError(FatalExecutorError):
    """The executor's USD budget would be passed by the next call."""


class SandboxError(InfraError):
    """A sandbox worker could not be started or was lost."""


class UsageError(Exception):
    """A bad flag, a missing file or a missing key: the command prints the message and exits with code 2."""
