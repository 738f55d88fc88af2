"""What a licence of weights lets one do, read from its name. No legal advice: a reason to look, or not to."""

from __future__ import annotations

import re
from typing import Literal

Use = Literal["free", "attribution", "copyleft", "restricted", "non-commercial", "unknown"]

# the first that fits tells: CC BY-NC-SA is non-commercial before it is anything else
_KINDS: tuple[tuple[Use, str], ...] = (
    ("non-commercial", r"\bnc\b|non[- ]?commercial|research|academic|evaluation only|fair[- ]?noncommercial"),
    ("restricted", r"rail|llama|gemma|community licen[cs]e|proprietary"),
    ("copyleft", r"gpl|\bsa\b|share[- ]?alike|mpl|epl|cddl"),
    ("attribution", r"\bcc[- ]by\b|\bodc[- ]by\b"),
    ("free", r"apache|\bmit\b|bsd|\bisc\b|zlib|cc0|public domain|unlicense|pddl|bsl-1"),
)
TOLD: dict[Use, str] = {
    "free": "commercial use allowed",
    "attribution": "commercial use allowed, with attribution",
    "copyleft": "share-alike: what is made of it may have to bear the same licence",
    "restricted": "commercial use under conditions of its own",
    "non-commercial": "no commercial use",
    "unknown": "not known: ask before you ship",
}


def use_of(licence: str) -> Use:
    """What kind of licence a name stands for.

    >>> use_of("Apache-2.0"), use_of("CC-BY-4.0"), use_of("cc-by-nc-4.0"), use_of("GPL-2.0"), use_of("")
    ('free', 'attribution', 'non-commercial', 'copyleft', 'unknown')
    """
    name = licence.lower().replace("_", "-")
    return next((use for use, pattern in _KINDS if re.search(pattern, name)), "unknown")
