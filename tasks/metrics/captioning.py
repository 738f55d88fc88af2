"""How well captions say what their references say. All take n candidates and the references of each, one or more.

Texts are compared by their `tokens`: lower case, no punctuation, Chinese by characters. The libraries behind BLEU,
ROUGE and the METEOR-like score come with the extra `text-metrics`, and are imported when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.captioning.cider import Idf
from tasks.captioning.cider import cider_d as pairwise
from tasks.captioning.tokens import tokens

Values = npt.NDArray[np.float64]
References = Sequence[Sequence[str]]


def cider_d(candidates: Sequence[str], references: References) -> Values:
    """CIDEr-D (n,) of each candidate, 0 to 10, by the idf of the references; papers give the mean ×100.

    As the COCO tool's `corpus` mode: the reference sets that are scored make the idf. Source: Vedantam et al. 2015.
    """
    idf = Idf(references)
    values = np.zeros(len(candidates))
    for row, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        said = idf.captions([candidate, *own])
        values[row] = pairwise(said.rows(slice(0, 1)), said.rows(slice(1, None))).mean()
    return values


def bleu_counts(candidates: Sequence[str], references: References) -> Values:
    """What BLEU is made of, (n, 10) a candidate: matching n-grams of order 1 to 4, all of them, words, words of the
    nearest reference. Counted by sacrebleu. They add up over candidates.
    """
    library = _library("sacrebleu.metrics.bleu", "sacrebleu")
    scorer = library.BLEU(tokenize="none", effective_order=True)
    rows = []
    for candidate, own in zip(candidates, references, strict=True):
        one = scorer.sentence_score(_joined(candidate), [_joined(text) for text in own])
        rows.append([*one.counts, *one.totals, one.sys_len, one.ref_len])
    return np.array(rows, np.float64).reshape(len(rows), 10)


def bleu(counts: Values, weights: Values | None = None, order: int = 4) -> float:
    """BLEU-1 to BLEU-4 of a corpus, 0 to 100, by its `bleu_counts` (n, 10); `weights` (n,) repeat or leave out rows.

    The geometric mean of the precisions, without smoothing, times the brevity penalty. Source: Papineni et al. 2002.

    >>> round(bleu(np.array([[4, 2, 0, 0, 5, 4, 3, 2, 5, 6.0]]), order=2), 2)
    51.78
    """
    total = counts.sum(0) if weights is None else weights @ counts
    hits, of = total[:order], total[4 : 4 + order]
    words, wanted = total[8:]
    if not hits.all():
        return 0.0
    short = min(1.0, float(np.exp(1 - wanted / words)))
    return float(100 * short * np.exp(np.log(hits / of).mean()))


def rouge_l(candidates: Sequence[str], references: References) -> Values:
    """ROUGE-L (n,), 0 to 1: F1 of the longest common subsequence with the best reference, by rouge-score.

    The COCO tool weighs recall more and mixes references; its values are a few hundredths higher. Source: Lin 2004.
    """
    library = _library("rouge_score.rouge_scorer", "rouge-score")
    scorer = library.RougeScorer(["rougeL"], tokenizer=_Tokenizer())
    return np.array(
        [
            max(scorer.score(text, candidate)["rougeL"].fmeasure for text in own)
            for candidate, own in zip(candidates, references, strict=True)
        ]
    )


def meteor_like(candidates: Sequence[str], references: References) -> Values:
    """Exact and stem stages of METEOR (n,), 0 to 1, by nltk: not METEOR proper, which knows synonyms and paraphrases.

    So it is lower, and no published METEOR compares with it. It needs no corpus. Source: Banerjee & Lavie 2005.
    """
    library = _library("nltk.translate.meteor_score", "nltk")
    said = [(tokens(one), [tokens(text) for text in own]) for one, own in zip(candidates, references, strict=True)]
    return np.array([library.meteor_score(own, one, wordnet=_NoSynonyms()) if one else 0.0 for one, own in said])


class _Tokenizer:
    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


class _NoSynonyms:
    """Stands where nltk wants WordNet."""

    def synsets(self, word: str) -> list[Any]:  # noqa: ARG002 - nltk's interface
        return []


def _joined(text: str) -> str:
    return " ".join(tokens(text))


def _library(module: str, package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise ImportError(f"{package} is not installed; pip install 'modalign[text-metrics]'") from None
