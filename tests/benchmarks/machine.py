"""Where figures were measured, in a line."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.machine import machine


def describe() -> str:
    """One line for people: date, processor, cores, memory, matrix instructions, versions."""
    facts = machine()
    names = ("prefect", "lancedb", "torch", "openvino", "transformers")
    versions = ", ".join(f"{name} {facts[name]}" for name in names if name in facts)
    day = datetime.now(UTC).date().isoformat()
    cores, _, bf16 = facts["cores"].partition(" ")
    return f"{day}, {facts['processor']}, {cores} cores {bf16}, {facts['memory']}, Python {facts['Python']}, {versions}"
