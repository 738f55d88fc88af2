"""What an encoder that was trained here says of itself: modalign.json, beside its weights. No part of its identity."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.encoders.protocol import EncoderError

FILE = "modalign.json"


class Origin(BaseModel):
    """The encoder it began as ("" for none), its licence, what it has seen, what it reads, and how it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    licence: str
    seen: str
    languages: tuple[str, ...] = ()
    how: dict[str, str | int | float]

    def save(self, folder: Path) -> None:
        """Write it into the folder of an encoder."""
        (folder / FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_origin(folder: Path) -> Origin | None:
    """What stands in the folder of an encoder; None where there is nothing. Raises `EncoderError` for another form."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Origin.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise EncoderError(f"{path} is not of the known form ({cause})", "mend it, or take it away") from error
