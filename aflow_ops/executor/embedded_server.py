"""The embedded executor's own process: OpenVINO GenAI's continuous batching behind OpenAI's chat completions.

    python -m aflow_ops.executor.embedded_server MODEL.gguf URL_FILE PORT

A request is greedy at temperature 0. Otherwise the n-th request of the same words samples with seed n, so that what a
run is told depends neither on when it asks nor on what else is asked at the time.

A process that is stuck ends itself, with every thread's traceback in its log: whoever started it starts it again.
"""

import argparse
import asyncio
import faulthandler
import itertools
import json
import os
import queue
import sys
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openvino_genai
from aiohttp import web

from aflow_ops.executor.embedded_weights import eight_bit

# Sequences that are decoded together: beyond it two cores gain nothing and every reply waits longer.
SEQUENCES = 16
# Prompt tokens of one forward pass, GiB of keys and values, and what the model was trained to read and write at once.
BATCHED_TOKENS, CACHE_GIB, CONTEXT_TOKENS = 512, 1, 2048
# A step of decoding takes well under a second. A process without one for so long, while it has requests, is stuck, and
# so is one whose event loop does not come round. How often that is looked at.
STUCK_SECONDS, BEAT_SECONDS = 60.0, 5.0
# What narrows sampling where a request does not say: a small model's tail is noise.
SAMPLING = {"top_p": 0.95, "min_p": 0.05, "top_k": 40}


class RefusedError(Exception):
    """A request that cannot be answered; its message is sent with status 400."""


@dataclass(eq=False)
class Generation:
    """One request on its way: what is asked, and the reply that its client waits for."""

    prompt: Any  # openvino.Tensor of shape (1, tokens)
    config: openvino_genai.GenerationConfig
    reply: "asyncio.Future[tuple[list[int], str]]"
    loop: asyncio.AbstractEventLoop
    handle: Any = field(default=None)

    def settle(self, tokens: list[int], reason: str) -> None:
        """Hand the reply over to the client's event loop."""
        self.loop.call_soon_threadsafe(self._set, tokens, reason)

    def _set(self, tokens: list[int], reason: str) -> None:
        if not self.reply.done():
            self.reply.set_result((tokens, reason))


class Engine:
    """The model; whoever calls `decode` lends it a thread in which all requests are decoded together.

    Args:
        model (`Path`): a GGUF file.

    Attributes:
        steps (`int`): of decoding so far.
        busy (`bool`): whether there are requests to decode.
    """

    def __init__(self, model: Path) -> None:
        self.steps, self.busy = 0, False
        schedule = openvino_genai.SchedulerConfig()
        schedule.cache_size = CACHE_GIB
        schedule.max_num_seqs = SEQUENCES
        schedule.max_num_batched_tokens = BATCHED_TOKENS
        schedule.enable_prefix_caching = True  # an operator's instructions are read once
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(model), schedule, "CPU")
        self.tokenizer = self._pipeline.get_tokenizer()
        self._defaults = self._pipeline.get_config()
        self._arrived: queue.SimpleQueue[Generation] = queue.SimpleQueue()
        self._asked: Counter[bytes] = Counter()

    async def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one chat completion.

        Args:
            request (`Mapping`): the body of OpenAI's request: `messages`, and `max_tokens`, `temperature`, `stop`,
                `seed`, `top_p` where given.

        Returns:
            `dict`: the body of OpenAI's response.

        Raises:
            RefusedError: a prompt beyond the context, or values that the model does not take.
        """
        prompt = self._prompt(request)
        config = self._config(request, prompt.shape[1])
        loop = asyncio.get_running_loop()
        generation = Generation(prompt, config, loop.create_future(), loop)
        self._arrived.put(generation)
        try:
            tokens, reason = await generation.reply
        except asyncio.CancelledError:  # the client is gone
            generation.reply.cancel()
            raise
        text = self.tokenizer.decode(tokens)
        used = {"prompt_tokens": prompt.shape[1], "completion_tokens": len(tokens)}
        return {
            "object": "chat.completion",
            "model": request.get("model", ""),
            "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}],
            "usage": {**used, "total_tokens": sum(used.values())},
        }

    def _prompt(self, request: Mapping[str, Any]) -> Any:
        try:
            text = self.tokenizer.apply_chat_template(request["messages"], True)
        except (KeyError, TypeError, RuntimeError) as error:
            raise RefusedError(f"messages: {error}") from None
        prompt = self.tokenizer.encode(text, add_special_tokens=False).input_ids
        if prompt.shape[1] >= CONTEXT_TOKENS:
            raise RefusedError(
                f"This model's maximum context length is {CONTEXT_TOKENS} tokens, but there are {prompt.shape[1]} in "
                "the messages."
            )
        return prompt

    def _config(self, request: Mapping[str, Any], prompt_tokens: int) -> openvino_genai.GenerationConfig:
        room = CONTEXT_TOKENS - prompt_tokens
        config = openvino_genai.GenerationConfig()
        config.eos_token_id, config.stop_token_ids = self._defaults.eos_token_id, self._defaults.stop_token_ids
        try:
            limit = int(request.get("max_tokens") or request.get("max_completion_tokens") or room)
            if limit < 1:
                raise RefusedError(f"max_tokens is at least 1, not {limit}")
            config.max_new_tokens = min(limit, room)
            temperature = float(request.get("temperature", 1.0))
            stop = request.get("stop") or []
            config.stop_strings = {stop} if isinstance(stop, str) else set(stop)
            if temperature > 0:
                config.do_sample, config.temperature = True, temperature
                for name, value in SAMPLING.items():
                    setattr(config, name, request.get(name, value))
                config.rng_seed = self._seed(request)
            config.validate()
        except (TypeError, ValueError, RuntimeError) as error:
            raise RefusedError(str(error)) from None
        return config

    def _seed(self, request: Mapping[str, Any]) -> int:
        if request.get("seed") is not None:
            return int(request["seed"])
        words = json.dumps(request, sort_keys=True).encode()
        self._asked[words] += 1
        return self._asked[words]

    def decode(self) -> None:
        """Decode whatever is asked, for ever."""
        active: list[Generation] = []
        numbers = itertools.count()
        while True:
            while not active or not self._arrived.empty():
                self.busy = bool(active)
                generation = self._arrived.get()
                self.busy = True
                if not generation.reply.done():
                    generation.handle = self._pipeline.add_request(next(numbers), generation.prompt, generation.config)
                    active.append(generation)
            self._pipeline.step()
            self.steps += 1
            active = [generation for generation in active if not _ended(generation)]


def _ended(generation: Generation) -> bool:
    """Whether a request needs no further step; its client is told then."""
    status = openvino_genai.GenerationStatus
    if generation.reply.done():
        generation.handle.cancel()
        return True
    if generation.handle.get_status() == status.RUNNING:
        return False
    outputs = generation.handle.read_all()
    tokens = outputs[0].generated_ids if outputs else []
    cut = not outputs or outputs[0].finish_reason == openvino_genai.GenerationFinishReason.LENGTH
    generation.settle(list(tokens), "length" if cut else "stop")
    return True


def application(engine: Engine) -> web.Application:
    """Return what is served: `/health`, `/v1/models` and `/v1/chat/completions`."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "SmolLM2-135M-Instruct", "object": "model"}]})

    async def complete(request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            if not isinstance(asked, dict):
                raise RefusedError("a request is a JSON object")
            return web.json_response(await engine.complete(asked))
        except (RefusedError, json.JSONDecodeError) as error:
            return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)

    served = web.Application(client_max_size=2**26)
    served.add_routes(
        [web.get("/health", health), web.get("/v1/models", models), web.post("/v1/chat/completions", complete)]
    )
    return served


async def serve(model: Path, url_file: Path, port: int) -> None:
    """Serve on loopback until standard input ends, and say where in `url_file`.

    Args:
        model (`Path`): the GGUF file.
        url_file (`Path`): gets the address once the model is loaded.
        port (`int`): 0 for a free one.
    """
    engine = Engine(eight_bit(model))
    runner = web.AppRunner(application(engine), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    partial = url_file.with_suffix(".partial")
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(f"{model.name} answers at {address}, {SEQUENCES} requests at once", file=sys.stderr, flush=True)
    partial.write_text(address)
    partial.replace(url_file)
    watching = asyncio.create_task(watch(engine))
    threads = {asyncio.create_task(asyncio.to_thread(work)) for work in (_until_input_ends, engine.decode)}
    ended, _ = await asyncio.wait({*threads, watching}, return_when=asyncio.FIRST_COMPLETED)
    errors = [error for task in ended if (error := task.exception()) is not None]
    for error in errors:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1 if errors else 0)  # nothing to save, and neither thread ends by itself


async def watch(engine: Engine) -> None:
    """Put off this process's end for as long as it is not stuck.

    The end comes from a thread that needs no interpreter lock: a library that holds it for ever is noticed too.

    Args:
        engine (`Engine`): whose steps are looked at.
    """
    seen = -1
    while True:
        if not engine.busy or engine.steps != seen:
            faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        seen = engine.steps
        await asyncio.sleep(BEAT_SECONDS)


def _until_input_ends() -> None:
    while sys.stdin.buffer.read(1):
        continue


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the embedded executor until standard input ends.")
    parser.add_argument("model", type=Path)
    parser.add_argument("url_file", type=Path)
    parser.add_argument("port", type=int, help="0 for a free one")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.model, arguments.url_file, arguments.port))
