"""What a whole answer may be wrapped in: tags, an object of JSON.

Example: `{"thought": "3 * 4", "answer": "12"}` and `<final_answer>12</final_answer>` say `12`.
"""

import json
import re
from typing import Any

ANSWER_TAG = re.compile(r"<(?:final[_ -]?)?answer>(.*?)</(?:final[_ -]?)?answer>", re.DOTALL | re.IGNORECASE)
_OBJECT = re.compile(r"(?:```(?:json)?\s*)?(\{.*\})(?:\s*```)?", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"(?:the[_ ])?(?:final[_ ])?answer", re.IGNORECASE)
SOLUTION = re.compile(r"(?:final[_ ])?(?:code|solution|answer|program)", re.IGNORECASE)
_MAX_CHARS = 50_000


def without_object(text: str, keys: re.Pattern[str] = _ANSWER) -> str:
    """Return what a text that is an object of JSON has under its one key of `keys`; any other text as it is."""
    match = _OBJECT.fullmatch(text.strip()) if len(text) <= _MAX_CHARS and "{" in text else None
    if match is None:
        return text
    try:
        found: Any = json.loads(match.group(1), parse_int=str, parse_float=str, strict=False)
    except (ValueError, RecursionError):
        return text
    answers = [value for key, value in found.items() if keys.fullmatch(key)]
    return answers[0] if len(answers) == 1 and isinstance(answers[0], str) else text
