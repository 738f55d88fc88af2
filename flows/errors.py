"""What went wrong, in one line, and the exit code: 2 for bad input, 1 for a failed run."""

from __future__ import annotations


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for any error that reaches the command line."""
    from cyclopts import CycloptsError
    from pydantic import ValidationError

    from config.errors import ModalignError
    from storage.errors import StorageError, refused_by_disk
    from tasks.encoders.protocol import EncoderError

    if isinstance(error, ModalignError):
        return error.exit_code, str(error)
    if isinstance(error, StorageError | EncoderError):
        return 1, str(error)
    if isinstance(error, CycloptsError):
        return 2, f"{_line(error)}; see modalign --help"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return 2, f"setting {'.'.join(map(str, first['loc']))}: {first['msg']} (got {first['input']!r})"
    if isinstance(error, OSError) and (refused := refused_by_disk(str(error.filename or "a file"), error)):
        return 1, str(refused)
    return 1, f"{type(error).__name__}: {_line(error) or 'no message'}; run again with --debug for the traceback"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
