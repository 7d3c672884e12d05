"""Episodes played by the policy: all turns that wait are written in one batch, token by token as they will be trained.

A conversation's tokens are kept as they were sampled, and what the agent is told is put between them as its chat
template has it; nothing is tokenized twice, so the trainer scores what the policy wrote.
"""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from aflow_ops.agents.episode import Conversation, Episode, EpisodeLimitError, Speaker, Utterance, play_episode
from aflow_ops.agents.speakers import BatchedTurns
from aflow_ops.agents.team import Team
from aflow_ops.executor.types import Message
from data.problem import Problem

T = TypeVar("T")
RunAsync = Callable[[Coroutine[Any, Any, T]], T]
# The tokens of each conversation's next turn, and their log-probabilities if known.
Turns = tuple[list[list[int]], list[list[float]] | None]
Write = Callable[[list[str], list[list[int]]], Turns]  # from roles, and the tokens of their conversations


@dataclass
class TokenRow:
    """The tokens of a conversation.

    Args:
        prompt (`list[int]`): up to the first reply.
        completion (`list[int]`): the replies, and between them what the agent was told.
        mask (`list[int]`): 1 for what the agent wrote, 0 for what it was told.
        logprobs (`list[float]`): of the completion when it was sampled, where the sampler tells; 0 for foreign tokens.
    """

    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def add(self, ids: Sequence[int], logprobs: Sequence[float] | None, *, own: bool) -> None:
        """Append tokens, the agent's own or foreign ones."""
        self.completion += ids
        self.mask += [int(own)] * len(ids)
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs

    def turns(self) -> list["TokenRow"]:
        """Return a row for each reply; its prompt is everything before it."""
        rows = []
        for own, places in groupby(range(len(self.mask)), key=self.mask.__getitem__):
            if own:
                first, *more = places
                part = slice(first, first + 1 + len(more))
                ids, before = self.completion[part], self.completion[:first]
                rows.append(TokenRow(self.prompt + before, ids, [1] * len(ids), self.logprobs[part]))
        return rows


class ChatTokens:
    """The policy's chat template, turn by turn.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): with a chat template.
        ends (`Sequence[int]`): tokens that end a reply.
        settings (`Mapping[str, Any]`): what the template is told (`chat_template_kwargs`).
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], settings: Mapping[str, Any] | None = None
    ) -> None:
        self.tokenizer, self.ends, self.settings = tokenizer, frozenset(ends), dict(settings or {})
        self._special = [token for token in tokenizer.all_special_tokens if token]

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a system message and what is told first, up to where the reply begins."""
        system, *told = messages
        return self._rendered([system, *({**message, "content": self.plain(message["content"])} for message in told)])

    def told(self, text: str) -> list[int]:
        """Return the tokens between a reply's last one and the beginning of the next reply, which answers a text."""
        before: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        # Counted, not measured: a template may show the last reply in another form than one that was answered.
        turns = sum(token in self.ends for token in self._rendered(before, more=False))
        whole = self._rendered([*before, {"role": "user", "content": self.plain(text)}])
        ended = [position for position, token in enumerate(whole) if token in self.ends]
        return whole[ended[turns - 1] + 1 :]

    def plain(self, text: str) -> str:
        """Break up what the tokenizer would read as special tokens: nobody ends somebody else's turn from within."""
        for token in self._special:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def text(self, ids: Sequence[int]) -> str:
        """Return what a reply says."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _rendered(self, messages: Sequence[Any], *, more: bool = True) -> list[int]:
        rendered = self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=more, tokenize=True, return_dict=True, **self.settings
        )
        return list(rendered["input_ids"])


class EpisodePlayer:
    """Plays episodes, with the policy in every role that no other speaker has.

    Args:
        team (`Team`): the recipe's.
        chat (`ChatTokens`): the policy's template.
        room (`int`): longest conversation in tokens before a reply.
        run_async (`Callable`): runs a coroutine on the loop on which tools live, and waits for it.
        others (`Mapping[str, Speaker]`): who plays the roles that are given away.
        together (`bool`): several processes play, and must write in step.
    """

    def __init__(
        self,
        team: Team,
        chat: ChatTokens,
        room: int,
        run_async: RunAsync[Any],
        others: Mapping[str, Speaker] | None = None,
        *,
        together: bool = False,
    ) -> None:
        self.team, self.chat, self.room, self.run_async = team, chat, room, run_async
        self.others, self.together = dict(others or {}), together

    def play(self, tasks: Sequence[tuple[Problem, int]], write: Write, team: Team | None = None) -> list[Episode]:
        """Play an episode for each task, all at once.

        Args:
            tasks (`Sequence[tuple[Problem, int]]`): problems, each with its episode's number among its own.
            write (`Callable`): the policy; called with no conversation when only other processes have some.
            team (`Team`, *optional*): plays instead of the player's own.

        Raises:
            FatalExecutorError: a model in a role refuses every call.
        """
        turns, team = BatchedTurns(), team or self.team
        speakers = {name: self.others.get(name, turns) for name in team.names}

        async def start() -> None:
            turns.start(
                [
                    play_episode(team, task, speakers, number=number, index=index)
                    for index, (task, number) in enumerate(tasks)
                ]
            )

        self.run_async(start())
        try:
            while self._anywhere(waiting := self.run_async(turns.waiting())):
                self.run_async(_answered(turns, self._written(waiting, write)))
        except BaseException:
            self.run_async(turns.cancel())
            raise
        return list(self.run_async(turns.results()))

    def _anywhere(self, waiting: Sequence[Conversation]) -> bool:
        return any(gather_object([len(waiting)])) if self.together else bool(waiting)

    def _written(self, waiting: Sequence[Conversation], write: Write) -> list[Utterance | Exception]:
        """Write the next turn of each conversation that has room for one."""
        for conversation in waiting:
            told = conversation.messages[-1]["content"]
            if conversation.record is None:
                conversation.record = TokenRow(self.chat.opening(conversation.messages))
            else:
                self._tell(conversation.record, told)
        fitting = [c for c in waiting if len(c.record.prompt) + len(c.record.completion) <= self.room]
        roles = [conversation.role.name for conversation in fitting]
        ids, logprobs = write(roles, [c.record.prompt + c.record.completion for c in fitting])
        said: dict[int, Utterance] = {}
        for index, conversation in enumerate(fitting):
            conversation.record.add(ids[index], None if logprobs is None else logprobs[index], own=True)
            said[id(conversation)] = Utterance(self.chat.text(ids[index]), len(ids[index]))
        full = EpisodeLimitError(f"a conversation has more than the {self.room} tokens that leave room for a reply")
        return [said.get(id(conversation), full) for conversation in waiting]

    def _tell(self, row: TokenRow, text: str) -> None:
        if row.completion[-1] not in self.chat.ends:  # a reply that was cut off is ended for it
            row.add([self.chat.tokenizer.eos_token_id], None, own=False)
        row.add(self.chat.told(text), None, own=False)


async def _answered(turns: BatchedTurns, said: Sequence[Utterance | Exception]) -> None:
    turns.answer(said)


def room_of(model: Any, new_tokens: int, limit: int | None = None) -> int:
    """Return the longest conversation, in tokens, after which a model can still write a turn.

    Args:
        model (`PreTrainedModel`): the policy; its config says what it reads.
        new_tokens (`int`): longest turn.
        limit (`int`, *optional*): what its sampler reads, if that is less.
    """
    reads = [n for n in (getattr(model.config, "max_position_embeddings", None), limit) if n]
    return max(1, min(reads, default=1 << 30) - new_tokens)


@torch.no_grad()  # type: ignore[untyped-decorator] # mypy reads nothing of torch
def continued(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    pad: int,
    ends: Collection[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
) -> list[list[int]]:
    """Sample what follows some tokens, outside of training; each continuation ends with its end token, if it got there.

    Args:
        model (`PreTrainedModel`): the policy, in evaluation mode.
        prompts (`Sequence[Sequence[int]]`): tokens.
        pad (`int`): padding token.
        ends (`Collection[int]`): tokens that end a continuation.
        max_new_tokens (`int`): longest continuation.
        temperature (`float`): at least 0; 0 is greedy.
        top_p (`float`): nucleus in (0, 1].
        top_k (`int`): candidates, 0 for all.
    """
    if not prompts:
        return []
    width = max(map(len, prompts))
    rows = [[pad] * (width - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > 0 else {}
    output = model.generate(
        input_ids=torch.tensor(rows, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        pad_token_id=pad,
        eos_token_id=list(ends),
        repetition_penalty=1.0,
        **sampling,
    )
    return [_until_end(ids, ends) for ids in output[:, width:].tolist()]


def _until_end(ids: list[int], ends: Collection[int]) -> list[int]:
    return ids[: next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))]
