"""What tokens cost."""

from functools import cache
from importlib.resources import files

import yaml

PER_MILLION = 1e6


@cache
def _table() -> dict[str, list[float]]:
    table: dict[str, list[float]] = yaml.safe_load(files(__package__).joinpath("prices.yaml").read_text())
    return table


@cache
def price_of(model: str) -> tuple[float, float] | None:
    """Return USD per token (input, output) of a model by `prices.yaml`, or `None` when it is not listed."""
    names = [name for name in _table() if model == name or model.startswith(name + "-")]
    if not names:
        return None
    per_million = _table()[max(names, key=len)]
    return per_million[0] / PER_MILLION, per_million[1] / PER_MILLION
