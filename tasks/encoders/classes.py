"""Class scores of a classifier as an encoder, and what its classes are called."""

from __future__ import annotations

CLASSES = "-classes"
"""Ends the name of an encoder whose vectors are the scores of its classes."""
IMAGENET = "imagenet-1k"


def class_names(named: str) -> tuple[str, ...]:
    """The names of the classes of a list, in the order of the scores. Raises `ValueError` for an unknown list.

    >>> class_names("imagenet-1k")[:2]
    ('tench', 'goldfish')
    """
    if named != IMAGENET:
        raise ValueError(f"no list of classes is called {named!r}; known: {IMAGENET}")
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
