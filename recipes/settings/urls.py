"""URLs among the settings, checked before anything is started."""

import fsspec
from fsspec.utils import get_protocol

from aflow_ops.errors import UsageError
from aflow_ops.secrets import without_secrets

# Packages of the protocols that people use most; fsspec names the others itself.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def check_url(flag: str, url: str) -> None:
    """Refuse a URL that can never work here. Opens no connection.

    Raises:
        UsageError: an unknown protocol, or its package is not installed; names the package.
    """
    protocol = get_protocol(url)
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise UsageError(
            f"{flag} {without_secrets(url)}: unknown protocol {protocol!r}; give a folder or a URL that fsspec knows, "
            "such as s3://bucket/run or gs://bucket/run"
        ) from None
    except ImportError as error:
        package = PACKAGES.get(protocol)
        install = f"pip install {package}" if package else str(error)
        raise UsageError(f"{flag} {without_secrets(url)}: {protocol}:// needs a package: {install}") from None
