"""The calls of many workflows and nothing else: plain asyncio with the client that the executor uses.

python -m scripts.benching.bare URL WORKFLOWS CALLS     # prints the seconds from the first call to the last reply
"""

import asyncio
import sys
import time

from httpx2 import Limits  # comes with openai
from openai import AsyncOpenAI, DefaultAioHttpClient

# Seconds; the SDK gives up on a connection after five, which a busy machine needs for a thousand.
TIMEOUT = 60.0


async def calls(url: str, workflows: int, each: int) -> float:
    """Make `each` calls one after the other, in so many coroutines at once.

    Args:
        url (`str`): base URL of the endpoint.
        workflows (`int`): coroutines.
        each (`int`): calls of one.

    Returns:
        `float`: wall seconds.
    """
    limits = Limits(max_connections=workflows + 8, max_keepalive_connections=None)
    http_client = DefaultAioHttpClient(limits=limits, timeout=TIMEOUT, trust_env=False)
    async with AsyncOpenAI(api_key="none", base_url=url, timeout=TIMEOUT, http_client=http_client) as client:

        async def one(index: int) -> None:
            text = f"What is {index} + 1?"
            for _ in range(each):
                reply = await client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": text}], temperature=0.7, max_tokens=512
                )
                text = f"{reply.choices[0].message.content}{index}"

        start = time.monotonic()
        await asyncio.gather(*(one(index) for index in range(workflows)))
        return time.monotonic() - start


if __name__ == "__main__":
    print(asyncio.run(calls(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
