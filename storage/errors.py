"""What storage can refuse, in words a person understands."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_SAID = re.compile(r"os error (\d+)")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class StorageError(Exception):
    """A table that cannot be read or written: `message` names it and the cause, `mend` what to do."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message}; {mend}" if mend else message)
        self.message = message
        self.mend = mend


class GoneError(StorageError):
    """A file of a table is not there any more, or is damaged."""


def refused_by_disk(name: str, error: BaseException) -> StorageError | None:
    """What to say of `name` when the disk is full or may not be written; None if `error` is another one.

    Lance hands the system's errors on as text. The cause is an `OSError` with the system's number in any case.
    """
    said = _SAID.search(str(error))
    code = getattr(error, "errno", None) or (int(said[1]) if said else None)
    if code in _FULL:
        found = StorageError(f"the disk is full while writing {name}", "free some space and run again")
    elif code in _FORBIDDEN:
        found = StorageError(f"{name} cannot be written ({os.strerror(code)})", "check the rights of the workspace")
    else:
        return None
    found.__cause__ = error if isinstance(error, OSError) and error.errno else OSError(code, str(error))
    return found


@contextmanager
def on_disk(name: str) -> Iterator[None]:
    """Turn a disk that is full or may not be written into a `StorageError` that names what was written."""
    try:
        yield
    except OSError as error:
        found = refused_by_disk(name, error)
        if found is None:
            raise
        raise found from found.__cause__
