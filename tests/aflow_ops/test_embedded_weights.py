"""The embedded model's weights in eight bits are those of its file."""

import tempfile
from pathlib import Path

import numpy
import pytest
from gguf import GGMLQuantizationType, GGUFReader, quants

from aflow_ops.executor import embedded_weights
from aflow_ops.executor.embedded import model_path
from aflow_ops.executor.embedded_weights import eight_bit


@pytest.mark.long
def test_the_file_is_converted_once_and_its_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    converted = eight_bit(model_path())
    assert list(converted.parent.iterdir()) == [converted]
    stamp = converted.stat().st_mtime_ns
    assert eight_bit(model_path()) == converted and converted.stat().st_mtime_ns == stamp
    before, after = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (model_path(), converted))
    assert before.keys() == after.keys()
    assert {tensor.tensor_type for tensor in after.values()} == {GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0}
    name = next(name for name, tensor in before.items() if tensor.tensor_type is GGMLQuantizationType.Q4_1)
    left, right = (quants.dequantize(found[name].data, found[name].tensor_type) for found in (before, after))
    assert numpy.abs(left - right).max() < 0.01 * numpy.abs(left).max()


def test_without_a_cache_in_the_home_folder_the_same_temporary_one_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.Q4_1.gguf"
    model.write_bytes(b"weights")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    conversions = []

    def convert(source: Path, target: Path) -> None:
        conversions.append(source)
        target.write_bytes(b"converted")

    monkeypatch.setenv("XDG_CACHE_HOME", str(model / "no folder"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(embedded_weights, "_convert", convert)
    assert eight_bit(model) == eight_bit(model)
    assert len(conversions) == 1 and [folder.stat().st_mode & 0o077 for folder in temporary.iterdir()] == [0]
