"""The paid endpoint's stand-in, which the benchmark uses too."""

from scripts.benching.endpoint import Broken, Failure, Messages, Raw, StubEndpoint

__all__ = ["Broken", "Failure", "Messages", "Raw", "StubEndpoint"]
