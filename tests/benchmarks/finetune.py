"""MiniLM's last two blocks fine-tuned on Flickr8k, from the workspace to the gate: the gain on val, and its cost."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.flickr_vectors import workspace
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

ENCODERS = {
    "image": ["builtin:efficientnet-lite0", "builtin:efficientnet-lite2"],
    "text": ["builtin:minilm"],
}
SETS = (
    f"encode.encoders={json.dumps(ENCODERS)}",
    *("align.dim=384", "assess.controls=1", "assess.draws=100"),
    "gate.confidence=0.975",  # of each end, so that both together hold 95%
)


def main() -> None:
    """Measure and record."""
    words = [word for text in SETS for word in ("--set", text)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "workspace"
        shutil.copytree(workspace(), root)
        modalign(["align", *words, "--name", "flickr8k", "-w", str(root)])
        done = modalign(["finetune", *words, "--name", "flickr8k", "-w", str(root)])
    trained, stages = done.result["trained"]["trained"], done.result["trained"]["stages"]
    decision = done.result["trained"]["decision"]
    gate = "" if decision is None else f" The gate: {decision['event']}."
    told = (
        "lite0 + lite2 × MiniLM by CCA, 6,000 photos × 5 captions, evaluated on val (1,000 × 5), one seed. The rate "
        "was chosen among 2e-5, 1e-4 and 3e-4 on 1,000 photos held out of train. Its training: "
        f"{trained['why']}.{gate}\n\n"
    )
    if decision is None:
        record("finetune", "Fine-tuning", told)
        return
    figures = decision["figures"]
    vectors = Counter[str]()
    for stage in stages:
        vectors[stage["modality"]] += stage["encoded"]
    low, high = figures["difference_low"], figures["difference_high"]
    rows = [
        ["before", figures["old"], "", "", "", ""],
        [
            "after",
            figures["new"],
            f"{figures['difference']:+.1f} ({low:+.1f} – {high:+.1f})",
            ", ".join(f"{count:,} of {modality}" for modality, count in sorted(vectors.items())),
            trained["cpu_seconds"],
            done.cpu_seconds,
        ],
    ]
    columns = ["", "rsum", "gain, paired 95%", "vectors computed", "CPU s of the training", "CPU s of the command"]
    record("finetune", "Fine-tuning", told + table(columns, rows))


if __name__ == "__main__":
    main()
