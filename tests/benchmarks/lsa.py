"""An encoder of Flickr8k's training captions alone, by latent semantic analysis: how well it ranks on val."""

from __future__ import annotations

from dataclasses import replace

from config.params import LsaParams
from tasks.alignment.fit import fit_space
from tasks.alignment.plan import Plan
from tasks.encoders.lsa import LsaEncoder
from tasks.encoders.lsa_fit import fit_lsa
from tasks.encoders.protocol import EncoderSpec, Runtime
from tests.benchmarks.flickr_vectors import LITE0, LITE2, MINILM, Split, Vectors, cpu_seconds, of_space, views
from tests.benchmarks.results import record, table

LSA = "lsa"


def with_lsa(vectors: Vectors) -> tuple[Split, Split, str]:
    """Train and val with the vectors of an LSA of the training captions beside the others, and what it is."""
    begin, how = cpu_seconds(), LsaParams()
    words, components, usual = fit_lsa(vectors.train.words, how.dim, how.seed)
    told = (
        f"LSA: {len(words):,} terms, {components.shape[1]:,} wide, trained on the 30,000 training captions alone in "
        f"{cpu_seconds() - begin:.0f} s of CPU; it has seen no other text."
    )
    spec = EncoderSpec("local:lsa", "text", components.shape[1], "", "", "tasks.encoders.lsa:load", "mean", "")
    places = {word: number for number, word in enumerate(words)}
    encoder = LsaEncoder(spec, Runtime("numpy", "float32", "cpu"), "", places, components, usual)
    train, val = (
        replace(one, texts={**one.texts, LSA: encoder.encode(one.words).vectors})
        for one in (vectors.train, vectors.val)
    )
    return train, val, told


def main() -> None:
    """Measure and record."""
    vectors, rows = Vectors(), []
    train, val, about = with_lsa(vectors)
    for texts in ((LSA,), (MINILM, LSA)):
        sides = views(train, train.pairs, (LITE0, LITE2), texts)
        begin = cpu_seconds()
        space = fit_space(*sides, Plan()).space
        one = of_space(val, space, cpu_seconds() - begin)
        low, high = one.interval
        rows.append([" + ".join(texts), one.rsum, f"{low:.1f} – {high:.1f}", one.raw, one.cpu])
    told = (
        "lite0 + lite2 × texts by CCA, 6,000 photos × 5 captions, evaluated on val (1,000 × 5), seed 0. "
        f"{about} Values are chosen by folds inside train.\n\n"
    )
    columns = ["texts", "rsum", "95%", "without hubness correction", "CPU s"]
    record("lsa", "An encoder of the training captions alone", told + table(columns, rows))


if __name__ == "__main__":
    main()
