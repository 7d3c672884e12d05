"""The executor: the frozen LLM that answers inside the operators."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aflow_ops.errors import UsageError
from aflow_ops.executor.chat import ChatTransport, openai_transports
from aflow_ops.executor.config import ExecutorConfig, executor_argument_group, executor_config_from
from aflow_ops.executor.embedded import embedded_server, model_identity, model_path
from aflow_ops.executor.keys import read_key
from aflow_ops.executor.metered import MeteredExecutor
from aflow_ops.executor.prices import price_of
from aflow_ops.executor.requests import RequestForm
from aflow_ops.executor.transport import Call, Completion, Transport, TransportError
from aflow_ops.executor.types import Executor, ExecutorUsage, Message, Reply
from aflow_ops.named import named_object


@asynccontextmanager
async def open_executor(
    config: ExecutorConfig,
    *,
    run_dir: Path | None = None,
    ledger: Path | None = None,
    proven: bool = False,
    token_ids: bool = False,
) -> AsyncIterator[MeteredExecutor]:
    """Open the executor that the flags ask for, and close it with everything it started.

    Args:
        config (`ExecutorConfig`): the flags.
        run_dir (`Path`, *optional*): folder for the embedded executor's log and lock; a temporary one by default.
        ledger (`Path`, *optional*): file over which the processes of this machine share their rate limits.
        proven (`bool`): `check_executor` has had an answer: a denial is about one call then, not about the run.
        token_ids (`bool`): ask an OpenAI-compatible endpoint for the tokens of its replies too.

    Raises:
        UsageError: no key, or a missing package.
        ExecutorError: the embedded executor did not start.
    """
    check_key(config)
    if config.executor == "local":
        with TemporaryDirectory() as temporary:
            async with (
                embedded_server(run_dir or Path(temporary)) as url,
                MeteredExecutor(config, [await _local_transport(config, url)]) as executor,
            ):
                yield executor
        return
    is_openai = config.executor == "openai"
    transports = (
        openai_transports(config, proven=proven, token_ids=token_ids) if is_openai else [_own_transport(config)]
    )
    async with MeteredExecutor(config, transports, ledger) as executor:
        yield executor


async def _local_transport(config: ExecutorConfig, url: str) -> Transport:
    form = RequestForm(config.executor_model, config.executor_thinking_tokens)
    return ChatTransport(config, url, form, identity=await asyncio.to_thread(model_identity, model_path()))


def _own_transport(config: ExecutorConfig) -> Transport:
    """Build the transport that `--executor package.module:Class` or `--executor file.py:Class` names.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        found = named_object(config.executor)
    except (ImportError, UsageError) as error:
        raise UsageError(f"--executor {config.executor}: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Transport)):
        raise UsageError(f"--executor {config.executor} is no subclass of aflow_ops.executor.Transport")
    return found(config)


def check_key(config: ExecutorConfig) -> None:
    """Say at once that a key is missing or cannot be sent, before anything slow starts.

    Raises:
        UsageError: OpenAI's own endpoint, or a variable of the user's own, without a key.
    """
    variable = config.executor_api_key_env
    if config.executor != "openai" or read_key(variable) is not None:
        return
    if not config.base_urls:
        raise UsageError(
            f"no executor: {variable} is not set. Set it to use gpt-4o-mini (export {variable}=...), give "
            "--executor_base_url of an endpoint that needs no key, or use the embedded model with --executor local "
            "(recipes: --config recipes/configs/quickstart.yaml)"
        )
    if variable not in ("OPENAI_API_KEY", "none"):
        raise UsageError(f"{variable} is not set, which --executor_api_key_env names ('none' where no key is needed)")


async def check_executor(config: ExecutorConfig) -> None:
    """Make one tiny call to a remote endpoint, so that a wrong key, model or address stops a run before it starts.

    Raises:
        UsageError: no key.
        ExecutorError: the endpoint refuses or cannot be reached; says what to check.
    """
    check_key(config)
    if config.executor != "local":
        async with open_executor(config) as executor:
            await executor.preflight()


__all__ = [
    "Call",
    "Completion",
    "Executor",
    "ExecutorConfig",
    "ExecutorUsage",
    "Message",
    "MeteredExecutor",
    "Reply",
    "Transport",
    "TransportError",
    "check_executor",
    "check_key",
    "executor_argument_group",
    "executor_config_from",
    "open_executor",
    "price_of",
]
