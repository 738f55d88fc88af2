from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from config.errors import UserError
from flows import cli
from flows.assess_answers import assess_answers
from flows.ingest import ingest
from flows.pipeline import pipeline
from storage import schemas
from storage.workspace import Workspace
from tasks.answer import Answerer
from tasks.answered import load_answered, load_model
from tests.flows.runs import artifacts, params_for, vector_of
from tests.readers import save_gpt2
from tests.sounds import tone, written
from tests.tiny import draw, write_collection

Encoders = dict[str, tuple[str, ...]]
ASKED = {"what colour is the shape": 1, "what is the shape": 2, "where is the shape": -1}


def write_questions(root: Path, count: int) -> Path:
    """A folder of drawn pictures without captions, each with a line for each of three questions."""
    root.mkdir(parents=True)
    lines = []
    for number in range(count):
        picture, words = draw(number)
        picture.save(root / f"{number:04}.png")
        lines += [
            {"file_name": f"{number:04}.png", "question": question, "answer": words.split()[place]}
            for question, place in ASKED.items()
        ]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.fixture(scope="module")
def asked(
    prefect_server: None, tiny_encoders: Encoders, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A workspace with the collection `asked`, 80 pictures with three answered questions each and no caption."""
    root = tmp_path_factory.mktemp("answers")
    folder = write_questions(root / "asked", 80)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        patch.chdir(root)
        ingest(params_for(folder, tiny_encoders))
        yield Workspace(root=root / "workspace")


def call(*words: str) -> int:
    """Exit code of `modalign` with these words."""
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_questions_are_stored_and_encoded(asked: Workspace, tiny_encoders: Encoders, tmp_path: Path) -> None:
    """Media without captions are items without pairs; each question is a row of `answers` and, once, a vector."""
    store = asked.store
    assert store.count(schemas.ANSWERS) == 240
    assert (store.count(schemas.ITEMS), store.count(schemas.PAIRS)) == (80, 0)
    (texts,) = (name for name in store.names() if "embeddings" in name and store.count(name) == len(ASKED))
    hashes = set(store.strings(schemas.ANSWERS, "content_hash"))
    assert set(store.strings(texts, "content_hash")) == hashes


def test_a_question_is_encoded_as_a_caption_is(
    asked: Workspace, prefect_server: None, tiny_encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caption that says what a question says has its vector, bit for bit."""
    folder = write_collection(tmp_path / "captioned", 4)
    said = list(ASKED)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in lines:
        row["captions"] = said
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "other"))
    done = ingest(params_for(folder, tiny_encoders))
    store = Workspace(root=tmp_path / "other").store
    (table,) = (one.table for one in done.encoded if one.modality == "text")
    for item in store.read(schemas.ITEMS, ["modality", "content_hash"]).to_pylist():
        if item["modality"] == "text":
            ours, found = asked.store.vectors(table, [item["content_hash"]])
            assert found.all()
            assert np.array_equal(ours[0], vector_of(store, done, item))


def test_figures_stand_beside_every_baseline(asked: Workspace) -> None:
    """By five folds every question is answered once; each method's accuracy is the mean over the types' questions, and
    what looks at the medium beats what does not: the answers depend on it.
    """
    found = assess_answers(params_for(Path("asked"), {"image": ("a",), "text": ("b",)}, answers={"folds": 5}).answers)
    figures = found.metrics
    assert figures == json.loads(Path(found.path).read_text())
    assert figures["questions"] == 240
    names = [row["method"] for row in figures["methods"]]
    assert names == ["rows", "question only", "media only", "per question type", "majority", "random"]
    for row in figures["methods"]:
        total = sum(kind["questions"] * kind[row["method"]] for kind in figures["types"])
        assert row["accuracy"] == pytest.approx(total / 240)
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
    accuracy = {row["method"]: row["accuracy"] for row in figures["methods"]}
    assert accuracy["rows"] > accuracy["question only"] + 0.1
    assert {row["coverage"] for row in figures["calibration"]["risk_coverage"]} >= {0.5, 1.0}
    assert {one.key for one in artifacts("answers%")} >= {"answers-asked", "answers-by-type-asked"}


def test_the_held_out_split_is_never_looked_at(asked: Workspace) -> None:
    """Without folds the rows of the held-out split are measured, and the kept model knows the training rows alone."""
    figures = assess_answers(params_for(Path("asked"), {"image": ("a",), "text": ("b",)}).answers, "asked").metrics
    about = load_answered(asked, "asked")
    assert figures["split"] == "heldout"
    assert figures["questions"] == int((about.splits == "heldout").sum())
    kept = load_model(asked, about)
    assert kept is not None
    train = np.flatnonzero(about.splits == "train")
    for found, expected in zip(kept[0].centres, about.table.centres(train), strict=True):
        for name, mean in expected.means.items():
            np.testing.assert_allclose(found.means[name], mean, atol=1e-6)


def test_an_answer_rests_on_stored_rows(asked: Workspace) -> None:
    """A question about a stored picture is answered with a confidence, alternatives whose shares fall, and evidence:
    stored rows with their true similarities, of which the asked one itself is the nearest.
    """
    assess_answers(params_for(Path("asked"), {"image": ("a",), "text": ("b",)}, answers={"unsure": 0.0}).answers)
    answerer = Answerer(asked)
    by_item = answerer.ask("what colour is the shape", item="0007.png", k=3)
    by_file = answerer.ask("what colour is the shape", file=Path("asked/0007.png"), k=3)
    assert (by_item.answer, by_item.alternatives) == (by_file.answer, by_file.alternatives)
    assert by_item.how == "rows"
    assert by_item.confidence is not None
    assert 0 < by_item.confidence < 1
    part = [one.share for one in by_item.alternatives]
    assert part == sorted(part, reverse=True)
    assert len(by_item.evidence) == 3
    own = [one for one in answerer.ask(draw(7)[1], item="0007.png", k=100).evidence if one.path.endswith("0007.png")]
    assert own
    assert all(one.media_similarity == pytest.approx(1, abs=1e-5) for one in own)
    assert all(one.question_similarity is not None and one.question_similarity <= 1.001 for one in own)


def test_nobody_knows_below_the_bound(asked: Workspace) -> None:
    """Where the confidence is below `answers.unsure` the answer is None; the best guess stays the first alternative."""
    assess_answers(params_for(Path("asked"), {"image": ("a",), "text": ("b",)}, answers={"unsure": 0.999}).answers)
    found = Answerer(asked).ask("where is the shape", item="0003.png")
    assert found.answer is None
    assert found.alternatives


def test_what_was_not_measured_says_so(
    prefect_server: None, tiny_encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an evaluation a vote answers without a confidence, and says how to get one; no rows at all is an error
    that names the mend.
    """
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    folder = write_questions(tmp_path / "few", 6)
    ingest(params_for(folder, tiny_encoders))
    workspace = Workspace(root=tmp_path / "workspace")
    found = Answerer(workspace).ask("what is the shape", item="0002.png")
    assert found.answer is not None
    assert found.confidence is None
    assert "evaluate-answers" in found.notes[0]
    with pytest.raises(UserError, match="no collection"):
        Answerer(workspace, collection="else").ask("what is the shape", item="0002.png")
    with pytest.raises(UserError, match="no medium"):
        Answerer(workspace).ask("what is the shape", file=Path("notes.txt"))
    with pytest.raises(UserError, match="a file or an item"):
        Answerer(workspace).ask("what is the shape")


@pytest.fixture(scope="module")
def captioned(
    prefect_server: None, tiny_encoders: Encoders, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A space in force over 40 captioned pictures; nobody has asked about them."""
    root = tmp_path_factory.mktemp("captioned")
    folder = write_collection(root / "shapes", 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        pipeline(params_for(folder, tiny_encoders))
        yield Workspace(root=root / "workspace")


def test_without_rows_candidates_are_compared(captioned: Workspace) -> None:
    """Given answers, or those that fit the type, are ranked by their cosine to the medium in the joint space; words of
    the nearest captions where no type tells any. None of it pretends to a confidence.
    """
    answerer = Answerer(captioned)
    given = answerer.ask("what is it?", item="0005.png", candidates=("circle", "square", "circle"))
    assert given.how == "candidates"
    assert {one.answer for one in given.alternatives} == {"circle", "square"}
    assert sum(one.share for one in given.alternatives) == pytest.approx(1)
    typed = answerer.ask("is there a circle?", item="0005.png")
    assert {one.answer for one in typed.alternatives} == {"yes", "no"}
    told = answerer.ask("what stands there?", item="0005.png", k=4)
    assert told.how == "captions"
    assert len(told.evidence) == 4
    spoken = " ".join(one.answer for one in answerer.ask("what stands there?", item="0005.png", k=20).evidence)
    assert all(one.answer in spoken.split() for one in told.alternatives)
    assert (given.confidence, typed.confidence, told.confidence) == (None, None, None)


def test_a_reader_writes_from_the_evidence(captioned: Workspace, tmp_path: Path) -> None:
    """A local model writes the answer from captions of similar items; of given answers one is taken, or none."""
    name = f"local:{save_gpt2(tmp_path / 'reader', positions=256)}"
    answerer = Answerer(captioned)
    found = answerer.ask("what is this", item="0005.png", reader=name, k=3)
    assert found.how == "reader"
    assert len(found.evidence) == 3
    assert found.answer == answerer.ask("what is this", item="0005.png", reader=name, k=3).answer
    chosen = answerer.ask("what is this", item="0005.png", candidates=("猫",), reader=name)
    assert chosen.answer is None
    with pytest.raises(UserError, match=r"config\.json"):
        answerer.ask("what is this", item="0005.png", reader="local:nowhere")


def test_the_command_prints_an_answer_and_its_evidence(
    asked: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`ask` prints answer and evidence, or JSON of them; what cannot be asked ends with 2."""
    assert call("ask", "--item", "0004.png", "what is the shape", "-w", str(asked.root), "-k", "2") == 0
    shown = capsys.readouterr().out
    assert "what is the shape → " in shown
    assert call("ask", "asked/0004.png", "what is the shape", "-w", str(asked.root), "--json") == 0
    assert json.loads(capsys.readouterr().out)["how"] == "rows"
    assert call("ask", "asked/0004.png", "-w", str(asked.root)) == 2
    assert call("ask", "nowhere.png", "what is it", "-w", str(asked.root)) == 2


def test_a_path_of_an_item_may_not_leave_its_collection(asked: Workspace) -> None:
    """An item is found by key or path among the items alone; a quote in it is a letter like any other."""
    for name in ("../../etc/passwd", "x' OR '1'='1"):
        with pytest.raises(UserError, match="there is no medium"):
            Answerer(asked).ask("what is the shape", item=name)


def test_asking_needs_no_prefect() -> None:
    """The query core of questions imports neither Prefect nor torch before an encoder is needed."""
    code = "import sys, tasks.answer; print({'prefect', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_sounds_are_asked_about_like_pictures(
    prefect_server: None, tiny_encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions about sounds are answered from the sounds alone, though there are as many about pictures."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    folder = write_questions(tmp_path / "both", 4)
    lines = [(folder / "metadata.jsonl").read_text()]
    for number in range(4):
        (folder / f"{number}.wav").write_bytes(written(tone(0.3, 300 + 400 * number)))
        said = {"file_name": f"{number}.wav", "question": "what is the shape", "answer": f"tone {number}"}
        lines.append(json.dumps(said))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    ingest(params_for(folder, tiny_encoders | {"audio": ("builtin:logmel",)}))
    answerer = Answerer(Workspace(root=tmp_path / "workspace"))
    assert answerer.ask("what is the shape", file=folder / "2.wav").answer == "tone 2"
    assert answerer.ask("what is the shape", file=folder / "0002.png").answer == draw(2)[1].split()[2]


def test_rows_that_change_answer_at_once(
    prefect_server: None, tiny_encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answerer that stays open answers by what the tables hold now: an answer that changed is the new one, and a
    question that goes takes its vector with it.
    """
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    folder = write_questions(tmp_path / "few", 1)
    ingest(params_for(folder, tiny_encoders))
    workspace = Workspace(root=tmp_path / "workspace")
    answerer = Answerer(workspace)
    assert answerer.ask("what is the shape", item="0000.png").answer == "circle"
    line = json.dumps({"file_name": "0000.png", "question": "what is the shape", "answer": ["bar", "disc", "disc"]})
    (folder / "metadata.jsonl").write_text(line)
    ingest(params_for(folder, tiny_encoders))
    assert answerer.ask("what is the shape", item="0000.png").answer == "disc"
    (row,) = workspace.store.read(schemas.ANSWERS, ["answer", "annotators"]).to_pylist()
    assert row == {"answer": "disc", "annotators": ["bar", "disc", "disc"]}
    counts = [workspace.store.count(name) for name in workspace.store.names() if name.startswith("embeddings_")]
    assert counts == [1, 1]
