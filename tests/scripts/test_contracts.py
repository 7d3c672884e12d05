"""What people's own scripts rely on: every command is there, with every flag that it has had."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import ROOT, run

CONTRACT: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("flags.yaml").read_text(encoding="utf-8"))
FLAG = re.compile(r"(?<![\w-])--([a-z]\w*)(?![\w-])")


def promised(command: str) -> set[str]:
    names: set[str] = set()
    for name in CONTRACT["commands"][command]:
        names |= set(CONTRACT["groups"][name.strip("<>")]) if name.startswith("<") else {name}
    return names


@pytest.mark.parametrize("command", CONTRACT["commands"])
def test_no_flag_of_a_command_is_renamed_or_dropped(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    usage, options = done.stdout.partition("\n\n")[0], done.stdout.partition("\noptions:\n")[2]
    assert promised(command) - set(FLAG.findall(usage + options)) == set()  # in between may be others' flags


def test_every_command_is_listed() -> None:
    files = [*(ROOT / "recipes").glob("*.py"), *(ROOT / "scripts").glob("*.py")]
    commands = {str(path.relative_to(ROOT)) for path in files if "\ndef main(" in path.read_text(encoding="utf-8")}
    assert commands == set(CONTRACT["commands"])
