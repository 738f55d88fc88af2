"""What storage can refuse, in words a person understands."""

from __future__ import annotations


class StorageError(Exception):
    """A table that cannot be read or written: `message` names it and the cause, `mend` what to do."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message}; {mend}" if mend else message)
        self.message = message
        self.mend = mend
