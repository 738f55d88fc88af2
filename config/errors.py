"""Errors a person can meet: one line that names the thing, the cause and the mend."""

from __future__ import annotations


class ModalignError(Exception):
    """Base: `message` names the thing and the cause, `mend` what to do; `exit_code` is the command line's."""

    exit_code = 1

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message}; {mend}" if mend else message)
        self.message = message
        self.mend = mend


class UserError(ModalignError):
    """Bad input: work did not begin."""

    exit_code = 2


class RunError(ModalignError):
    """A run that failed after it had begun; what was stored stays."""
