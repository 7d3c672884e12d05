"""The script of `recipes/deepcoder.py`: code, analyses and repairs for `plain_functions`, with mistakes planted.

generator:    ```python
                  return x + n
              ```
test_runner:  It must return x * n.
refiner:      ```python
                  return x * n
              ```
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message
from data.plain_functions import solution_of

# How often the script writes right code, finds the fault, follows the analysis, and mends without one. It is careless.
WRITES_RIGHT, FINDS_FAULT, FOLLOWS, MENDS_ALONE = 0.3, 0.4, 0.85, 0.3


class DeepCoderScript:
    """Speaks for generator, test_runner and refiner."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role.

        Raises:
            ValueError: the task is none of `plain_functions`.
        """
        told = messages[-1]["content"]
        found = solution_of(told)
        if found is None:
            raise ValueError(f"not a task of plain_functions: {told!r}")
        right, wrong = found[0], rng.choice(found[1])
        if role == "test_runner":
            return f"It must return {right if rng.random() < FINDS_FAULT else wrong}."
        if role == "generator":
            written = right if rng.random() < WRITES_RIGHT else wrong
        else:
            analysis = re.search(r"It must return (.+)\.", told.rpartition("Analysis:\n")[2])
            own = right if rng.random() < MENDS_ALONE else wrong
            written = analysis[1] if analysis is not None and rng.random() < FOLLOWS else own
        return f"```python\n    return {written}\n```"
