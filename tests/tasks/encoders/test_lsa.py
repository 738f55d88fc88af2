from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.encoders.fingerprint import fingerprint
from tasks.encoders.lsa import terms
from tasks.encoders.lsa_fit import fit_lsa, languages_of, save_lsa
from tasks.encoders.protocol import Encoder, EncoderError, Runtime
from tasks.encoders.registry import load, resolve
from tests.tasks.encoders.parts import captions, cosines, run_python
from tests.tasks.encoders.test_company import assert_company_is_nothing, differ
from tests.tiny import draw

TEXTS = [draw(number)[1] for number in range(80)]


def made(folder: Path, texts: list[str], dim: int = 12) -> str:
    """The name of an encoder made of the texts."""
    folder.mkdir()
    save_lsa(folder, *fit_lsa(texts, dim, 0))
    return f"local:{folder}"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """An encoder of eighty captions, as params would name it."""
    return load(resolve(made(tmp_path_factory.mktemp("lsa") / "shapes", TEXTS), "text"))


def test_it_is_an_encoder_like_any_other(encoder: Encoder) -> None:
    """A folder of model type lsa resolves to texts, runs on NumPy, and keeps every law of an encoder's vectors."""
    assert isinstance(encoder, Encoder)
    assert (encoder.spec.modality, encoder.spec.dim, encoder.spec.max_tokens) == ("text", 12, None)
    assert encoder.runtime == Runtime("numpy", "float32", "cpu")
    assert encoder.fingerprint == fingerprint(encoder.spec, encoder.runtime)
    together = assert_company_is_nothing(encoder, [*TEXTS, *captions(20)])
    assert differ(together[:80])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert encoder.encode([]).vectors.shape == (0, 12)


def test_vectors_are_the_decomposition_of_plain_loops(tmp_path: Path) -> None:
    """Vectors span what a dense SVD of term weights by plain loops spans: all their cosines are the same."""
    texts = ["a red bar", "a red circle", "the blue bar", "the blue circle", "a blue bar", "red"]
    found = [terms(text) for text in texts]
    words = sorted({one for many in found for one in many if sum(one in other for other in found) >= 2})
    table = np.zeros((len(texts), len(words)))
    for row, many in enumerate(found):
        for column, word in enumerate(words):
            count = many.count(word)
            times = sum(word in other for other in found)
            table[row, column] = (1 + np.log(count)) * (np.log(7 / (1 + times)) + 1) if count else 0
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    axes = np.linalg.svd(table)[2][:4]
    wanted = table @ axes.T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    vectors = load(resolve(made(tmp_path / "few", texts, dim=4))).encode(texts).vectors
    np.testing.assert_allclose(vectors @ vectors.T, wanted @ wanted.T, atol=1e-5)


def test_a_text_of_unknown_words_is_like_all_texts(encoder: Encoder) -> None:
    """Where no term is known, all such texts have one unit vector, that of the mean of the training texts."""
    vectors = encoder.encode(["xyzzy qqq", "☕", *TEXTS]).vectors
    assert np.array_equal(vectors[0], vectors[1])
    assert np.isclose(np.linalg.norm(vectors[0]), 1)
    lengths = np.random.default_rng(0).normal(size=(500, 12)).astype(np.float32)
    assert cosines(vectors[:1], vectors[2:].mean(0, keepdims=True))[0] > 0.95
    assert cosines(vectors[:1].repeat(500, 0), lengths).max() < 0.95


def test_words_alike_are_near_and_forms_share_pieces(encoder: Encoder) -> None:
    """A text that shares all words but one is nearer than one that shares none; a word's other form is not unknown."""
    near, far, form, unknown = encoder.encode(
        ["a red circle at the left", "a red circle at the right", "blue bar", "redder circles", "xyzzy"]
    ).vectors[1:]
    query = encoder.encode(["a red circle at the left"]).vectors[0]
    assert query @ near > query @ far
    assert query @ form > query @ far
    assert not np.allclose(form, unknown)


def test_chinese_is_read_by_characters(tmp_path: Path) -> None:
    """Chinese texts need no spaces: characters and pairs of them are terms; the encoder says that it reads them."""
    texts = ["一只黑猫", "一只白猫", "两只黑狗", "两只白狗", "黑猫和白狗"] * 2
    words, components, usual = fit_lsa(texts, 4, 0)
    assert {"黑", "猫", "黑 猫", "只 黑"} <= set(words)
    assert languages_of(words) == ()
    assert languages_of(["red", "*red"]) == ("und",)
    (tmp_path / "zh").mkdir()
    save_lsa(tmp_path / "zh", words, components, usual)
    cat, cats, dog = load(resolve(f"local:{tmp_path / 'zh'}")).encode(["黑猫", "黑猫。", "两只狗"]).vectors
    assert np.array_equal(cat, cats)
    assert cat @ dog < 0.9


def test_the_number_of_threads_changes_nothing_that_counts() -> None:
    """Made on one thread and on two, every component is the same to 1e-5, its sign included."""
    script = (
        "import sys, numpy as np\n"
        "from tests.tasks.encoders.parts import captions\n"
        "from tasks.encoders.lsa_fit import fit_lsa\n"
        "words, components, usual = fit_lsa(captions(600), 40, 0)\n"
        "print(np.concatenate([components.ravel(), usual]).tolist())"
    )
    one, two = (
        np.array(json.loads(run_python(script, OMP_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count)))
        for count in ("1", "2")
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_changed_word_is_another_encoder(tmp_path: Path) -> None:
    """The vocabulary is part of the fingerprint, as the weights are."""
    name = made(tmp_path / "one", TEXTS)
    before = resolve(name).revision
    path = tmp_path / "one" / "vocabulary.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps(["other", *words[1:]]))
    assert resolve(name).revision != before


@pytest.mark.parametrize("file", ["vocabulary.json", "model.safetensors"])
def test_a_damaged_folder_is_named(tmp_path: Path, file: str) -> None:
    """A file that is cut, or does not match the other, is an error that names the encoder and the mend."""
    name = made(tmp_path / "cut", TEXTS)
    path = tmp_path / "cut" / file
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(EncoderError, match=r"cut.*train it again"):
        load(resolve(name))
    (tmp_path / "cut" / "vocabulary.json").write_text('["a"]')
    if file == "vocabulary.json":
        with pytest.raises(EncoderError, match="does not match"):
            load(resolve(name))


def test_too_little_is_refused() -> None:
    """Texts without two terms in common make no encoder."""
    with pytest.raises(EncoderError, match="too few"):
        fit_lsa(["one", "two", "three"], 8, 0)
