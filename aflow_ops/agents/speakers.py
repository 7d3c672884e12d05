"""Who plays the roles: a model whose turns are written in batches, or the executor."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from aflow_ops.agents.episode import Conversation, Utterance
from aflow_ops.executor.types import Executor

# Who plays a role, where a flag says `role=executor`.
EXECUTOR = "executor"

T = TypeVar("T")


class ExecutorSpeaker:
    """Any OpenAI-compatible model in a role. It does not train.

    Args:
        executor (`Executor`): the model.
        max_tokens (`int`): of one turn.
    """

    def __init__(self, executor: Executor, max_tokens: int) -> None:
        self.executor, self.max_tokens = executor, max_tokens

    async def reply(self, conversation: Conversation) -> Utterance:
        """Return the model's next turn; equal conversations of a problem's episodes are different samples.

        Raises:
            ExecutorError: no answer after all retries.
        """
        reply = await self.executor.complete(
            conversation.messages,
            temperature=self.executor.temperature,
            max_tokens=self.max_tokens,
            sample=conversation.sample,
        )
        return Utterance(reply.text, reply.completion_tokens)


class BatchedTurns:
    """A model that writes the turns of many episodes at once: a batch is complete when every episode waits or ended.

    So what is in a batch depends on the episodes alone, never on how long their tools took. Used on one event loop:

        turns.start(play_episode(team, task, speakers, index=i) for i, task in enumerate(tasks))
        while waiting := await turns.waiting():
            turns.answer([model(conversation) for conversation in waiting])
        episodes = await turns.results()
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Conversation, asyncio.Future[Utterance]]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._changed = asyncio.Event()

    def start(self, episodes: Sequence[Coroutine[Any, Any, Any]]) -> None:
        """Start episodes; the one with `index` i must be the i-th."""
        self._tasks = [asyncio.create_task(episode) for episode in episodes]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._changed.set())

    async def reply(self, conversation: Conversation) -> Utterance:
        """Wait until the turn was written."""
        future: asyncio.Future[Utterance] = asyncio.get_running_loop().create_future()
        entry = (conversation, future)
        self._waiting.append(entry)
        self._changed.set()
        try:
            return await future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._changed.set()

    async def waiting(self) -> list[Conversation]:
        """Return the conversations of the next batch, by episode; none when every episode has ended.

        Raises:
            Exception: what an episode raised; the others are cancelled.
        """
        while not await self._complete():
            self._changed.clear()
            await self._changed.wait()
        failed = next((task for task in self._tasks if task.done() and task.exception() is not None), None)
        if failed is not None:
            await self.cancel()
            failed.result()
        self._waiting.sort(key=lambda entry: entry[0].episode)
        return [conversation for conversation, _ in self._waiting]

    async def _complete(self) -> bool:
        for _ in range(3):  # whoever was just told something, or starts two turns at once, comes to wait
            await asyncio.sleep(0)
        if any(task.done() and task.exception() is not None for task in self._tasks):
            return True
        waiting = {conversation.episode for conversation, _ in self._waiting}
        return all(task.done() or index in waiting for index, task in enumerate(self._tasks))

    def answer(self, said: Sequence[Utterance | Exception]) -> None:
        """Hand out what was written for the conversations that `waiting` returned, in their order."""
        entries, self._waiting = self._waiting, []
        for (_, future), utterance in zip(entries, said, strict=True):
            if future.done():  # its episode was cancelled
                continue
            if isinstance(utterance, Exception):
                future.set_exception(utterance)
            else:
                future.set_result(utterance)

    async def results(self) -> list[Any]:
        """Return what the episodes returned, in their order."""
        return list(await asyncio.gather(*self._tasks))

    async def cancel(self) -> None:
        """End the episodes that still run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
