"""The paid endpoint's stand-in, which the benchmark uses too."""

from scripts.benching.endpoint import Answer, Broken, Failure, Messages, Raw, StubEndpoint

__all__ = ["Answer", "Broken", "Failure", "Messages", "Raw", "StubEndpoint"]
