"""`python -m tests.benchmarks [name …]`: measure, print, and write RESULTS.md. Without a name: all of them."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = (
    "demo",
    "tuxpaint",
    "flickr8k",
    "curves",
    "knn",
    "million",
    "mining",
    "reproduce",
    "finetune",
    "lsa",
    "labelling",
    "esc",
    "clips",
    "captions",
    "answers",
    "updates",
    "startup",
    "growth",
    "fifty",
    "kills",
    "runners",
    "serving",
    "searching",
    "ingest",
    "decodes",
    "team",
    "scale",
)


def main(names: list[str]) -> None:
    """Run the named benchmarks."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        sys.exit(f"there is no benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        import_module(f"tests.benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
