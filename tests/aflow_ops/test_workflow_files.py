"""Workflow files are read in the encoding that they are in, with their prompts; what cannot be read is told."""

import codecs
from pathlib import Path

import pytest

from aflow_ops.errors import UsageError
from aflow_ops.language import parse_workflow
from aflow_ops.search.aflow_folder import read_aflow_folder
from aflow_ops.search.expand import as_completion
from aflow_ops.workflow_files import MAX_FILE_BYTES, read_source, read_workflow_file

CAFE = 'ASK = "Café?"\n'
GRAPH = (
    "import workspace.MATH.workflows.round_1.prompt as prompt_custom\nclass Workflow:\n"
    "    def __init__(self, name, llm_config, dataset):\n        self.llm = create_llm_instance(llm_config)\n"
    "    async def __call__(self, problem):\n        return await self.llm(prompt_custom.ask(problem)), 0\n"
)
PROMPTS = (
    f'class Texts:\n    END = "</prompt> is no end"\n{CAFE}def ask(problem):\n    return ASK + Texts.END + problem\n'
)


@pytest.mark.parametrize(
    "data",
    [
        CAFE.encode(),
        codecs.BOM_UTF8 + CAFE.encode(),
        f"# -*- coding: latin-1 -*-\r\n{CAFE}".encode("latin-1"),
        f"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n{CAFE}".encode("cp1252"),
        CAFE.encode("utf-16"),
    ],
)
def test_a_file_is_read_in_its_encoding(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "prompt.py").write_bytes(data)
    text = read_source(tmp_path / "prompt.py")
    assert text.endswith(CAFE)
    assert "\r" not in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (f"A = 1\n{CAFE}".encode("latin-1"), "byte 0xe9 in line 2 is no utf-8; save it as UTF-8, or name its encoding"),
        (b"# coding: klingon\n", "unknown encoding: klingon; save it as UTF-8"),
        (b"# coding: hex\n41\n", "save it as UTF-8"),
        (codecs.BOM_UTF8 + b"# coding: latin-1\n", "save it as UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "has more than 1000000 bytes"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, data: bytes | None, said: str) -> None:
    if data is not None:
        (tmp_path / "graph.py").write_bytes(data)
    with pytest.raises(UsageError, match=said) as raised:
        read_source(tmp_path / "graph.py", "--workflow")
    assert str(raised.value).startswith(f"--workflow {tmp_path / 'graph.py'} ")
    assert "\n" not in str(raised.value)


def test_prompts_that_are_no_python_are_told(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(GRAPH)
    (tmp_path / "prompt.py").write_text(f"{PROMPTS}\nx = = 1\n")
    with pytest.raises(UsageError, match=r"prompt.py is no Python: invalid syntax at line 7"):
        read_workflow_file(tmp_path / "graph.py", "FILE")
    (tmp_path / "graph.py").write_text("Custom -> Custom")
    assert read_workflow_file(tmp_path / "graph.py", "FILE").prompts == {}


def test_a_workflow_and_its_prompts_are_one_completion(tmp_path: Path) -> None:
    folder = tmp_path / "round_1"
    folder.mkdir()
    (folder / "graph.py").write_text(GRAPH)
    (folder / "prompt.py").write_text(f"# coding: latin-1\n{PROMPTS}", encoding="latin-1")
    found = read_workflow_file(folder / "graph.py", "FILE")
    direct = parse_workflow(found.text, domain="math", has_entry_point=False, prompts=found.prompts)
    assert "def ask" in direct.text
    assert direct.prompts == {"ASK": "Café?"} | {"Texts": {"END": "</prompt> is no end"}}
    (imported,) = read_aflow_folder(tmp_path)
    for text in (imported.completion, as_completion(direct.text, direct.prompts)):
        again = parse_workflow(text, domain="math", has_entry_point=False)
        assert (again.text, again.prompts) == (direct.text, direct.prompts)
