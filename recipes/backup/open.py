"""Backing up for as long as a block lasts."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipes.backup.backup import Backup
from recipes.backup.destination import DEFAULT_KEEP
from recipes.settings.urls import check_url

# How long an interrupted run waits for what is on its way.
INTERRUPTED_SECONDS = 5.0


@contextmanager
def open_backup(
    url: str | None,
    run_dir: Path,
    *,
    wait_seconds: float = 120.0,
    keep: int | None = None,
    fresh: bool = True,
    main_process: bool = True,
) -> Iterator[Backup | None]:
    """Back up while inside, and wait for the rest on the way out; `None` without a URL and in other processes.

    Args:
        url (`str`, *optional*): `--backup_url`.
        run_dir (`Path`): `outputs/<run>`.
        wait_seconds (`float`): longest wait at the end.
        keep (`int`, *optional*): checkpoints to keep there.
        fresh (`bool`): the run starts anew.
        main_process (`bool`): whether this is the process that backs up.

    Raises:
        UsageError: the URL can never work, or has backups of another run.
    """
    if url is not None:
        check_url("--backup_url", url)
    if url is None or not main_process:
        yield None
        return
    backup = Backup(url, run_dir, keep=keep or DEFAULT_KEEP, fresh=fresh, command=sys.argv)
    backup.check()
    try:
        yield backup
    except KeyboardInterrupt:
        wait_seconds = min(wait_seconds, INTERRUPTED_SECONDS)
        raise
    finally:
        backup.close(wait_seconds)
