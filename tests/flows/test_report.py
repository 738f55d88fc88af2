from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from config.errors import UserError
from flows import cli
from flows.pipeline import pipeline
from storage import schemas
from storage.filters import eq
from storage.workspace import Workspace
from tasks.export import export_atlas, export_pairs, export_trec
from tasks.export_model import export_model
from tasks.heldout import both_ways
from tasks.refs import Outcome
from tasks.report import metrics_of, report_of, write_report
from tasks.reports.contents import Encoder, Report
from tasks.reports.markup import looked_up
from tasks.reports.page import render
from tests.flows.runs import artifacts, params_for
from tests.tiny import write_collection

ROWS = 80
EVIL = '<script>alert("a red & black circle")</script>'
_VOID = {"meta", "img", "br", "link", "input"}


class Made(NamedTuple):
    workspace: Workspace
    first: Outcome
    second: Outcome


@pytest.fixture(scope="module")
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """Two spaces over 80 pictures, the second against the first; captions of HTML, a broken picture."""
    root = tmp_path_factory.mktemp("report")
    folder = write_collection(root / "shapes", ROWS)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for place, row in enumerate(np.random.default_rng(0).permutation(ROWS).tolist()):
        lines[row]["split"] = "train" if place < 40 else "test"
        if place >= 40:
            lines[row]["captions"][1] = f"{EVIL} {lines[row]['captions'][1]}"
    (folder / "broken.png").write_bytes(b"no picture")
    lines.append({"file_name": "broken.png", "captions": ["a broken picture"], "split": "test"})
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        patch.chdir(root)
        assess = {"slice_groups": 10, "draws": 200}
        runs = [
            pipeline(params_for(folder, tiny_encoders, assess=assess, align={"method": method}))
            for method in ("cca", "ridge")
        ]
        yield Made(Workspace(root=root / "workspace"), *runs)


class Told(NamedTuple):
    """A figure on a page: where it stands, its exact value, and its words ("" for a mark of a plot)."""

    kind: str
    where: str
    value: float
    text: str


class Page(HTMLParser):
    """Tags with their attributes, figures, and the text outside of styles and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[Told] = []
        self.text = ""
        self._open: list[str] = []
        self._told: tuple[str, str, float] | None = None
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.tags.append((tag, about))
        if tag not in _VOID:
            self._open.append(tag)
        for kind in ("metric", "report", "change"):
            where = about.get(f"data-{kind}")
            if where is not None:
                value = float(str(about.get("value", about.get("data-value"))))
                if tag == "data":
                    self._told = (kind, where, value)
                else:
                    self.figures.append(Told(kind, where, value, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._told is not None:
            self.figures.append(Told(*self._told, data))
            self._told = None
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += f" {data}"


def standing(document: Any, where: str) -> Any:
    """What a JSON pointer points to."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in where.split("/")]
    for part in parts:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def fits(text: str, value: float) -> bool:
    """Whether words are a value, or a hundred times it, to the digits that they have."""
    plain = text.replace(",", "").replace("%", "").replace("+", "").replace("−", "-")
    digits = len(plain.partition(".")[2])
    return any(abs(float(plain) - scale * value) <= 0.5 * 10**-digits + 1e-9 for scale in (1, 100))


def check(page: Page, report: Report) -> None:
    """Every figure of the page stands in metrics.json or in the file beside it, exactly, and is told rightly."""
    documents = {"metric": report.metrics, "report": report.further}
    for told in page.figures:
        if told.kind == "change":
            assert report.before is not None
            now, then = (standing(one, told.where) for one in (report.metrics, report.before))
            assert told.value == now - then
        else:
            assert told.value == standing(documents[told.kind], told.where), told
        assert not told.text or fits(told.text, told.value), told


def test_every_figure_is_that_of_the_metrics(made: Made) -> None:
    """Parsed back, each figure of the page is that of metrics.json, of the file beside the page, or a difference."""
    aligned = made.second.aligned
    page = Path(made.workspace.reports / "report-shapes.html")
    told = Page(page.read_text(encoding="utf-8"))
    metrics = json.loads(Path(made.second.score.path).read_text())
    further = json.loads(page.with_suffix(".json").read_text())
    before = json.loads(Path(made.first.score.path).read_text())
    check(told, Report(metrics=metrics, further=further, made="", before=before))
    where = {one.where for one in told.figures}
    for direction in metrics["directions"]:
        for name in ("hit_rate@1", "hit_rate@5", "hit_rate@10", "MRR", "nDCG@10"):
            lead = f"directions/{direction}/{name}"
            assert {f"{lead}/value", f"{lead}/interval/0", f"{lead}/interval/1"} <= where
        assert f"directions/{direction}/curve/0/hit_rate" in where
        assert f"directions/{direction}/hubness/N10/0/shares/0" in where
    assert {"rsum", "rsum_interval/0", "modality_gap", "ann/recall", "leaks/media"} <= where
    assert any(one.kind == "change" for one in told.figures)
    assert aligned.space.space_id in told.text


def test_the_curve_is_the_hit_rate(made: Made) -> None:
    """At each k the curve is the share of queries that rank a right item among their first k, by hand, and chance."""
    metrics, aligned = made.second.score.metrics, made.second.aligned
    for way in both_ways(made.workspace.store, aligned.space, aligned.collections, "test"):
        scores = 2 * way.vectors @ way.gallery.vectors.T - way.gallery.hubness[way.query.modality]
        for row in metrics["directions"][way.name]["curve"]:
            hits = 0
            for values, relevant in zip(scores, way.relevant, strict=True):
                best = max(values[relevant[relevant >= 0]])
                hits += int((values > best).sum()) < row["k"]
            assert row["hit_rate"] == pytest.approx(hits / len(scores), abs=1 / len(scores))
            if row["k"] in (1, 5, 10):
                assert row["hit_rate"] == metrics["directions"][way.name][f"hit_rate@{row['k']}"]["value"]
                assert row["chance"] == metrics["directions"][way.name]["chance"][f"hit_rate@{row['k']}"]["value"]


def test_the_page_is_one_file_and_safe(made: Made) -> None:
    """Nothing is loaded from elsewhere, and markup in captions is text."""
    html = (made.workspace.reports / "report-shapes.html").read_text(encoding="utf-8")
    page = Page(html)
    for _, about in page.tags:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            assert name not in about or str(about[name]).startswith(("data:image/webp", "#"))
    assert "url(" not in html
    assert "@import" not in html
    assert set(re.findall(r"https?://[^\s\"'<>]*", html)) == {"http://www.w3.org/2000/svg"}
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert EVIL in page.text
    assert all(about.get("alt") for tag, about in page.tags if tag == "img")
    assert all(about.get("aria-label") for tag, about in page.tags if tag == "svg")
    assert {"h1", "h2", "caption", "figcaption"} <= {tag for tag, _ in page.tags}
    assert "broken.png" in page.text
    assert len(html) < 3_000_000


def test_what_is_missing_is_left_out(made: Made, tmp_path: Path) -> None:
    """Without media on disk, calibration, slices, curve, index figures or a second direction there is still a page."""
    aligned = made.first.aligned
    folder = made.workspace.root.parent / "shapes"
    folder.rename(folder.with_name("away"))
    try:
        report = report_of(made.workspace, aligned, metrics_of(aligned))
    finally:
        folder.with_name("away").rename(folder)
    assert all(one.query.picture is None for one in (*report.best, *report.worst))
    check(Page(render(report)), report)
    metrics = json.loads(json.dumps(report.metrics))
    del metrics["directions"]["image_to_text"]
    way = metrics["directions"]["text_to_image"]
    way["calibration"] = {"fitted_on": None, "reason": "<i>too few</i>"}
    del way["curve"], way["hubness"]["N10"]
    bare = Report(metrics=metrics | {"slices": []}, further={"schema": 1}, made="today")
    page = Page(render(bare))
    check(page, bare)
    assert "<i>too few</i>" in page.text
    path = write_report(made.workspace, bare, tmp_path / "new" / "page.html")
    assert json.loads(path.with_suffix(".json").read_text()) == {"schema": 1}


def test_the_examples_are_those_of_the_space(made: Made) -> None:
    """Of the best the right one is first; the worst have the greatest rank; hubs stand in the most lists, by hand."""
    aligned = made.second.aligned
    report = report_of(made.workspace, aligned, metrics_of(aligned))
    assert [one["rank"] for one in report.further["best"]] == [1] * len(report.best)
    assert all(one.found[0].right for one in report.best)
    ways = {way.name: way for way in both_ways(made.workspace.store, aligned.space, aligned.collections, "test")}
    for name, way in ways.items():
        worst = [one["rank"] for one in report.further["worst"] if one["direction"] == name]
        assert worst[0] == way.values["rank"].max()
        lists = np.argsort(-(way.vectors @ way.gallery.vectors.T), axis=1)[:, :10]
        counts = np.bincount(lists.ravel(), minlength=len(way.gallery.keys))
        hubs = [one["raw"] for one in report.further["hubs"] if one["direction"] == name]
        assert hubs == sorted(counts.tolist(), reverse=True)[:3]


def test_licences_and_contamination_are_told(made: Made) -> None:
    """An encoder that may not be used commercially is a warning, as is what it has seen."""
    aligned = made.first.aligned
    report = report_of(made.workspace, aligned, metrics_of(aligned))
    seen = Encoder("image", "hf:x/y", 8, "cc-by-nc-4.0", "trained on this very test set")
    page = Page(render(replace(report, encoders=[seen])))
    assert "hf:x/y (cc-by-nc-4.0) may not be used commercially" in page.text
    assert "trained on this very test set" in page.text


def test_the_commands_give_the_space_again(made: Made) -> None:
    """The printed commands name the source, the encoders and the values that are not the usual ones."""
    aligned = made.second.aligned
    ingest, align, evaluate = report_of(made.workspace, aligned, metrics_of(aligned)).commands
    assert str(made.workspace.root.parent / "shapes") in ingest
    assert "align.method=ridge" in align
    assert "align.dim=16" in align
    assert aligned.encoded[0].encoder in align
    assert "assess.draws=200" in evaluate


def test_plots_are_artifacts(made: Made) -> None:
    """Each run leaves its key plots as PNG, and says where the report lies."""
    kinds = {one.key: one for one in artifacts("plot-%-shapes")}
    assert {"plot-hit-rates-shapes", "plot-hubness-shapes", "plot-map-shapes"} <= set(kinds)
    assert all(one.type == "image" and str(one.data).startswith("data:image/png;base64,") for one in kinds.values())
    place = str(made.workspace.reports / "report-shapes.html")
    assert any(place in str(one.data) for one in artifacts("report-shapes"))  # other tests leave some of this name


def test_an_unchanged_space_keeps_its_report(made: Made, tiny_encoders: dict[str, tuple[str, ...]]) -> None:
    """The same run again does not write the page anew; a page that is gone is made again."""
    page = made.workspace.reports / "report-shapes.html"
    written = page.stat().st_mtime_ns
    assess = {"slice_groups": 10, "draws": 200}
    params = params_for(made.workspace.root.parent / "shapes", tiny_encoders, assess=assess, align={"method": "ridge"})
    pipeline(params)
    assert page.stat().st_mtime_ns == written
    page.unlink()
    pipeline(params)
    assert page.is_file()


def test_report_and_exports_from_the_command_line(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`report` writes where it is told, in full with the learning curve; `export` says what it wrote."""
    where = ("-w", str(made.workspace.root), "--json")
    out = tmp_path / "page.html"
    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", "--space", made.second.aligned.space.space_id, "--full", "-o", str(out), *where])
    assert json.loads(capsys.readouterr().out)["report"] == str(out)
    page, further = Page(out.read_text()), json.loads(out.with_suffix(".json").read_text())
    if further["curve"] is not None:
        assert {f"curve/points/{n}/rsum" for n in range(len(further["curve"]["points"]))} <= {
            one.where for one in page.figures
        }
    for what in ("atlas", "pairs"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["export", what, "-o", str(tmp_path / what), *where])
        assert json.loads(capsys.readouterr().out)["export"]["rows"] == pq.read_metadata(tmp_path / what).num_rows
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", "model", "-o", str(tmp_path / "m"), "--modality", "image", *where])
    assert "--modality text" in capsys.readouterr().err


def test_a_run_is_read_by_trec_eval(made: Made, tmp_path: Path) -> None:
    """pytrec_eval finds our hit rates, MRR and nDCG in the run and qrels, in both directions, ties and all."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    aligned = made.first.aligned
    files = export_trec(made.workspace, aligned, tmp_path, split="auto", depth=1_000)
    assert {one.name for one in files} == {
        f"{name}.{kind}" for name in ("text_to_image", "image_to_text") for kind in ("run", "qrels")
    }
    for name, told in metrics_of(aligned)["directions"].items():
        with (tmp_path / f"{name}.run").open() as run, (tmp_path / f"{name}.qrels").open() as qrels:
            ranked, right = pytrec_eval.parse_run(run), pytrec_eval.parse_qrel(qrels)
        wanted = {"success_1,5,10", "recip_rank", "ndcg_cut_10", "recall_10", "Rprec"}
        found = pytrec_eval.RelevanceEvaluator(right, wanted).evaluate(ranked)
        pairs = {
            "success_1": "hit_rate@1", "success_5": "hit_rate@5", "success_10": "hit_rate@10", "recip_rank": "MRR",
            "ndcg_cut_10": "nDCG@10", "recall_10": "recall@10", "Rprec": "R-precision",
        }  # fmt: skip
        assert len(found) == told["queries"]
        for theirs, ours in pairs.items():
            assert np.mean([one[theirs] for one in found.values()]) == pytest.approx(told[ours]["value"], abs=1e-6)


def test_the_atlas_opens_in_embedding_atlas(made: Made, tmp_path: Path) -> None:
    """Its own loader takes the file, in the form it documents; neighbours are the nearest by cosine, by hand."""
    aligned, out = made.first.aligned, tmp_path / "atlas.parquet"
    count = export_atlas(made.workspace, aligned, out, neighbours=5)
    table = pq.read_table(out)
    assert count == table.num_rows == aligned.index.rows
    vectors = np.stack(table["vector"].to_numpy())
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    for row, near in enumerate(table["neighbors"].to_pylist()):
        assert row not in near["ids"]
        assert len(near["ids"]) == 5
        assert 1 - np.array(near["distances"]) == pytest.approx(np.sort(cosines[row])[::-1][:5], abs=1e-5)
        assert 1 - np.array(near["distances"]) == pytest.approx(cosines[row, near["ids"]], abs=1e-5)
    assert np.isfinite([table["x"].to_numpy(), table["y"].to_numpy()]).all()
    utils = pytest.importorskip("embedding_atlas.utils")
    frame = utils.load_pandas_data(str(out))
    assert len(frame) == count
    assert all(set(near) == {"ids", "distances"} for near in frame["neighbors"])  # as its --neighbors wants them
    assert np.stack([near["ids"] for near in frame["neighbors"]]).max() < count
    assert utils.to_parquet_bytes(frame)


def test_pairs_name_both_ends(made: Made, tmp_path: Path) -> None:
    """Each given pair stands in the file with its picture's path, if that could be read, and its caption."""
    out = tmp_path / "pairs.parquet"
    assert export_pairs(made.workspace, made.first.aligned, out) == made.workspace.store.count(schemas.PAIRS)
    rows = pq.read_table(out).to_pylist()
    folder = made.workspace.root.parent / "shapes"
    lines = {row["file_name"]: row for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())}
    assert [row["right_text"] for row in rows if row["left_uri"] is None] == ["a broken picture"]
    assert len(rows) == 2 * ROWS + 1
    for row in rows:
        if row["left_uri"] is None:
            continue
        assert (row["left_modality"], row["right_modality"]) == ("image", "text")
        assert row["right_text"] in lines[row["left_uri"]]["captions"]
        assert row["left_split"] == row["right_split"] == lines[row["left_uri"]]["split"]


def test_the_model_is_loaded_by_sentence_transformers(made: Made, tmp_path: Path) -> None:
    """SentenceTransformer(folder), without code of ours, gives the vectors of encoder and head to 1e-4 in fp32."""
    from sentence_transformers import SentenceTransformer

    from tasks.align import open_space
    from tasks.encode import spec_of
    from tasks.encoders.protocol import Runtime
    from tasks.encoders.registry import loader_of

    aligned, out = made.first.aligned, tmp_path / "model"
    dim = export_model(made.workspace, aligned, "text", out)
    assert not {path.suffix for path in out.rglob("*")} & {".py", ".bin", ".pkl", ".pt"}
    texts = [
        "a red circle at the left", "picture of a long black bar and the green cross", "猫", "words that nobody knows",
        " ".join(["a blue square on the bottom"] * 30),
    ]  # fmt: skip
    found = SentenceTransformer(str(out), device="cpu", trust_remote_code=False).encode(texts)
    name = next(one.encoder for one in aligned.encoded if one.modality == "text")
    spec = spec_of(name, "text")
    encoder = loader_of(spec)(spec, Runtime("torch", "float32", "cpu"), "0" * 32, tmp_path / "models", 1)
    joint, _ = open_space(aligned.space.path)
    ours = joint.project("text", {name: encoder.encode(texts).vectors})
    assert found.shape == (len(texts), dim)
    assert np.abs(found - ours).max() < 1e-4
    with pytest.raises(UserError, match="is there already"):
        export_model(made.workspace, aligned, "text", out)
    shutil.rmtree(out)


def test_items_by_split_are_counted(made: Made) -> None:
    """The table of items says what the space's table holds."""
    aligned = made.first.aligned
    report = report_of(made.workspace, aligned, metrics_of(aligned))
    assert sum(one["count"] for one in report.further["items"]) == made.workspace.store.count(aligned.space.table)
    for one in report.further["items"]:
        where = eq("modality", one["modality"]) & eq("split", one["split"])
        assert one["count"] == made.workspace.store.count(aligned.space.table, where)
    assert looked_up(report.further, ("items", 0, "count")) == report.further["items"][0]["count"]
