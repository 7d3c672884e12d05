"""The embedded model's weights as OpenVINO reads them well.

Its GGUF file has blocks of four bits with a minimum each (Q4_1), which OpenVINO keeps as whole-number zero points: half
of what the model can do is lost that way. Blocks of eight bits (Q8_0) lose nothing that can be measured and run as
fast, so the file is converted once, in seconds, and kept in the user's cache folder.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quants

_WRITTEN_BY_THE_WRITER = {"general.architecture", "GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}


def eight_bit(model: Path) -> Path:
    """Return a GGUF file with the weights of `model` in eight bits, converted when it is not there.

    Args:
        model (`Path`): a GGUF file.
    """
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = _cache_folder()
    converted = folder / f"{model.stem.rsplit('.', 1)[0]}.Q8_0.{digest[:16]}.gguf"
    if not converted.is_file():
        print(f"converting {model.name} to eight bits, once: {converted}", file=sys.stderr, flush=True)
        handle, partial = tempfile.mkstemp(dir=folder, suffix=".gguf")
        os.close(handle)
        try:
            _convert(model, Path(partial))
            Path(partial).replace(converted)
        finally:
            Path(partial).unlink(missing_ok=True)
    return converted


def _cache_folder() -> Path:
    """The user's own: in the home folder, or, where that cannot be written, among the temporary files."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aflow-recipes"
    if _writable(home):
        return home
    kept = Path(tempfile.gettempdir()) / f"aflow-recipes-{os.getuid()}"
    # Anybody may make a folder of that name there, so it counts only when it is this user's.
    if _writable(kept) and kept.lstat().st_uid == os.getuid():
        return kept
    return Path(tempfile.mkdtemp(prefix="aflow-recipes-"))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _convert(source: Path, target: Path) -> None:
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name in _WRITTEN_BY_THE_WRITER:
            continue
        value = int(LlamaFileType.MOSTLY_Q8_0) if name == "general.file_type" else field.contents()
        items = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=items)
    for tensor in reader.tensors:
        if tensor.tensor_type in (GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0):
            raw = None if tensor.tensor_type is GGMLQuantizationType.F32 else tensor.tensor_type
            writer.add_tensor(tensor.name, numpy.array(tensor.data), raw_dtype=raw)
            continue
        values = quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        eight = quants.quantize(values, GGMLQuantizationType.Q8_0)
        writer.add_tensor(tensor.name, eight, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    print(eight_bit(Path(sys.argv[1])))
