from __future__ import annotations

import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.encoders import registry, runtime
from tasks.encoders.keep import keep
from tasks.encoders.packages import package_file
from tasks.encoders.protocol import Encoder, EncoderError, slug
from tasks.encoders.registry import SPECS, available, check_installed, default_models_dir, load, release, resolve
from tasks.encoders.split_zip import unpack
from tests.tasks.encoders.parts import folder_of, run_python, start_python

# names and slugs


@pytest.mark.parametrize("name", ["builtin:minilm2", "builtin:", "builtin:MiniLM"])
def test_unknown_builtins_are_answered_by_the_list(name: str) -> None:
    """An unknown builtin name is refused with the list of those there are."""
    with pytest.raises(EncoderError, match="there is no encoder") as caught:
        resolve(name)
    assert all(known in caught.value.mend for known in SPECS)


@pytest.mark.parametrize("name", ["minilm", "", "hf:", "local:", "torchvision:", "clip:ViT-B/32", "https://x.org"])
def test_other_names_are_answered_by_the_forms(name: str) -> None:
    """A name of no known form is refused with the four forms."""
    with pytest.raises(EncoderError, match="is not understood") as caught:
        resolve(name)
    assert all(form in caught.value.mend for form in ("builtin:", "torchvision:", "hf:", "local:"))


def test_modality_is_checked() -> None:
    """A builtin or torchvision encoder asked for another modality is refused."""
    for name, modality in (("builtin:minilm", "image"), ("torchvision:ResNet18_Weights.IMAGENET1K_V1", "text")):
        with pytest.raises(EncoderError, match=f"not {modality}"):
            resolve(name, modality)
    assert resolve("builtin:minilm", "text") is SPECS["builtin:minilm"]


def test_builtin_specs_are_sound() -> None:
    """Each builtin pins its weights by SHA-256 and says its licence; available() says of each what it lacks."""
    for name, spec in SPECS.items():
        assert spec.name == name
        assert re.fullmatch("sha256:[0-9a-f]{64}", spec.revision) or spec.runtimes == ("numpy",)
        assert spec.licence
        assert spec.normalise
    listed = dict(available())
    assert list(listed) == list(SPECS.values())
    assert listed[SPECS["builtin:minilm"]] is None
    for reason in listed.values():
        assert reason is None or re.search("is not installed; pip install|holds no file", reason)


def test_missing_packages_are_named() -> None:
    """A distribution that is not installed, or lacks the file, is named with the command that mends it."""
    with pytest.raises(EncoderError, match="no-such-dist is not installed; pip install no-such-dist"):
        package_file("no-such-dist", ".pth")
    with pytest.raises(EncoderError, match=r"holds no file \.nothing"):
        package_file("pytest", ".nothing")


def test_what_is_missing_is_said_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """check_installed passes what can run, and refuses a builtin without its package and a device that is not there,
    without loading anything.
    """
    spec = SPECS["builtin:minilm"]
    check_installed(spec, "cpu")
    with pytest.raises(EncoderError, match="no-such-dist is not installed"):
        check_installed(replace(spec, source="no-such-dist"), "cpu")
    monkeypatch.setattr(runtime, "has_cuda", lambda: False)
    with pytest.raises(EncoderError, match="no CUDA device"):
        check_installed(spec, "cuda")


@given(st.text())
def test_slugs_fit_table_names(name: str) -> None:
    """Whatever a name holds, its slug is 1 to 40 characters of a-z, 0-9 and hyphens, without one at either end."""
    assert re.fullmatch("[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", slug(replace(SPECS["builtin:minilm"], name=name)))


def test_colliding_slugs_have_their_own_tables(tmp_path: Path, tiny: dict[str, str]) -> None:
    """Two encoders whose slugs are the same still write to different tables: the fingerprint is in the name."""
    from tasks.encode import table_of

    deep = tmp_path / "a-rather-deep-folder-of-models"
    specs = []
    for name in ("model-one", "model-two"):
        shutil.copytree(folder_of(tiny["text"]), deep / name)
        specs.append(resolve(f"local:{deep / name}", "text"))
    specs[1] = resolve(f"local:{deep / 'model-two'}?pooling=cls", "text")
    assert slug(specs[0]) == slug(specs[1])
    tables = [table_of(spec, "cpu") for spec in specs]
    assert tables[0] != tables[1]
    assert all(re.fullmatch(f"embeddings_{slug(specs[0])}_[0-9a-f]{{8}}", table) for table in tables)


# loading


@pytest.fixture
def empty_registry() -> Iterator[None]:
    """No encoder is loaded before or after."""
    release()
    yield
    release()


def copies(tmp_path: Path, tiny: dict[str, str], count: int) -> list[str]:
    """Names of so many folders of the same tiny BERT."""
    for number in range(count):
        shutil.copytree(folder_of(tiny["text"]), tmp_path / f"m{number}")
    return [f"local:{tmp_path / f'm{number}'}" for number in range(count)]


def test_loaded_encoders_are_kept_up_to_a_number(
    tmp_path: Path, tiny: dict[str, str], models_dir: Path, empty_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loaded encoder is given again; so many last used stay, here four, and the one used longest ago goes."""
    monkeypatch.setattr(registry, "_KEPT", 4)
    specs = [resolve(name) for name in copies(tmp_path, tiny, 5)]

    def get(number: int) -> Encoder:
        return load(specs[number], device="cpu", models_dir=models_dir, threads=1)

    first = [get(number) for number in range(4)]
    assert [get(number) for number in range(4)] == first
    assert get(0) is first[0]  # now 1 is the oldest
    get(4)
    assert len(registry._loaded) == 4
    assert get(0) is first[0]
    assert get(2) is first[2]
    assert get(3) is first[3]
    assert get(1) is not first[1]
    assert len(registry._loaded) == 4


def test_released_encoders_are_forgotten(
    tmp_path: Path, tiny: dict[str, str], models_dir: Path, empty_registry: None
) -> None:
    """release(spec) forgets that encoder, release() all."""
    one, two = (resolve(name) for name in copies(tmp_path, tiny, 2))
    first, second = (load(spec, device="cpu", models_dir=models_dir) for spec in (one, two))
    release(one)
    assert load(two, device="cpu", models_dir=models_dir) is second
    assert load(one, device="cpu", models_dir=models_dir) is not first
    release()
    assert not registry._loaded


def test_default_models_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a workspace converted models go to the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_models_dir() == Path("/somewhere/modalign/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_models_dir() == Path("/home/someone/.cache/modalign/models")


# keep

RACE = """
import os, sys, time
from pathlib import Path
from tasks.encoders.keep import keep

folder, go = Path(sys.argv[1]), Path(sys.argv[2])

def make(fresh):
    for number in range(40):
        (fresh / f"{number:02}").write_text(str(os.getpid()))
        time.sleep(0.005)

print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
kept = keep(folder, make)
print(sorted({path.read_text() for path in kept.iterdir()}), len(list(kept.iterdir())))
"""


def test_two_processes_keep_one_folder(tmp_path: Path) -> None:
    """Two processes that make the same folder at once read the same whole files, made by one of them; no one ever sees
    a folder half made, and nothing else is left.
    """
    folder, go = tmp_path / "models" / "abc", tmp_path / "go"
    racers = [start_python(RACE, str(folder), str(go)) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    go.touch()
    while any(racer.poll() is None for racer in racers):
        assert not folder.exists() or len(list(folder.iterdir())) == 40
        time.sleep(0.002)
    answers = [racer.communicate() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    maker = (folder / "00").read_text()
    assert answers[0][0] == f"['{maker}'] 40\n"
    assert int(maker) in [racer.pid for racer in racers]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_failing_maker_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """A maker that fails half way leaves neither the folder nor its own, its error is the caller's, and the next try
    starts afresh.
    """

    def fail(fresh: Path) -> None:
        (fresh / "half").write_text("x")
        raise error("on purpose")

    folder = tmp_path / "models" / "abc"
    with pytest.raises(error, match="on purpose"):
        keep(folder, fail)
    assert list(folder.parent.iterdir()) == []
    assert keep(folder, lambda fresh: (fresh / "whole").touch()) == folder
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_kept_folder_is_not_made_again(tmp_path: Path) -> None:
    """What is kept is given as it is: the maker is not called."""
    (tmp_path / "abc").mkdir()

    def fail(_: Path) -> None:
        raise AssertionError

    assert keep(tmp_path / "abc", fail) == tmp_path / "abc"


def test_killed_maker_leaves_no_folder(tmp_path: Path) -> None:
    """A process killed while it makes leaves nothing at the folder; what it had is swept away when an hour old."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tasks.encoders.keep import keep\n"
        "def make(fresh):\n"
        "    (fresh / 'half').touch()\n"
        "    print(fresh, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "keep(Path(sys.argv[1]), make)\n"
    )
    folder = tmp_path / "abc"
    process = start_python(script, str(folder))
    left = Path(process.communicate()[0].strip())
    assert process.returncode == -9
    assert not folder.exists()
    assert left.is_dir()
    keep(folder, lambda fresh: None)
    assert left.is_dir()  # it may be at work still
    shutil.rmtree(folder)
    os.utime(left, (time.time() - 3_700,) * 2)
    keep(folder, lambda fresh: None)
    assert not left.exists()


# packages in pieces


def pieces(folder: Path, files: dict[str, bytes], cuts: tuple[int, ...] = (7, 100)) -> list[Path]:
    """A zip of these files, cut at these bytes."""
    with zipfile.ZipFile(folder / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    data = (folder / "whole.zip").read_bytes()
    edges = [0, *cuts, len(data)]
    paths = []
    for number, (start, end) in enumerate(pairwise(edges), 1):
        paths.append(folder / f"model.zip.{number:03}")
        paths[-1].write_bytes(data[start:end])
    return paths


WANTED = frozenset({"config.json", "model.safetensors"})
CONTENT = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4_000}


@pytest.mark.parametrize("top", ["", "all-mpnet/"])
@pytest.mark.parametrize("cuts", [(), (1,), (7, 100), (100, 100, 2_000)], ids=str)
def test_pieces_are_one_zip(tmp_path: Path, top: str, cuts: tuple[int, ...]) -> None:
    """However a zip is cut, its wanted files come out whole, flat, and no others."""
    files = {top + name: data for name, data in CONTENT.items()} | {f"{top}README.md": b"x"}
    out = tmp_path / "out"
    out.mkdir()
    unpack(pieces(tmp_path, files, cuts), out, WANTED)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == CONTENT


def test_deeper_files_are_not_the_models(tmp_path: Path) -> None:
    """A file of the same name in a deeper folder (1_Pooling/config.json) does not take the place of the model's."""
    files = {"m/1_Pooling/config.json": b"wrong"} | {f"m/{name}": data for name, data in CONTENT.items()}
    files["m/2_Dense/config.json"] = b"wrong"
    out = tmp_path / "out"
    out.mkdir()
    unpack(pieces(tmp_path, files), out, WANTED)
    assert (out / "config.json").read_bytes() == b"{}"


def test_turned_bits_are_refused(tmp_path: Path) -> None:
    """A bit turned anywhere in the pieces is noticed, unless it lies where nothing depends on it: no file comes out
    changed.
    """
    out = tmp_path / "out"
    out.mkdir()
    content = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}
    paths = pieces(tmp_path, content, (200,))
    refused = 0
    for path in paths:
        sound = path.read_bytes()
        for place in range(len(sound)):
            turned = bytearray(sound)
            turned[place] ^= 1 << place % 8
            path.write_bytes(turned)
            try:
                unpack(paths, out, WANTED)
            except EncoderError:
                refused += 1
            else:
                assert {one.name: one.read_bytes() for one in out.iterdir()} == content
        path.write_bytes(sound)
    assert refused > 300


def test_damaged_zips_are_refused(tmp_path: Path) -> None:
    """A missing piece, pieces in another order, a cut end, no zip at all and a missing file are each refused."""
    out = tmp_path / "out"
    out.mkdir()
    paths = pieces(tmp_path, CONTENT, (2_000,))
    for broken in (paths[:1], paths[1:], paths[::-1], []):
        with pytest.raises(EncoderError, match="no sound zip"):
            unpack(broken, out, WANTED)
    paths[1].write_bytes(paths[1].read_bytes()[:-30])
    with pytest.raises(EncoderError, match="no sound zip"):
        unpack(paths, out, WANTED)
    with pytest.raises(EncoderError, match=r"lacks tokenizer\.json"):
        unpack(pieces(tmp_path, CONTENT), out, WANTED | {"tokenizer.json"})


def test_no_name_in_a_zip_chooses_a_path(tmp_path: Path) -> None:
    """Names with ../, absolute ones and backslashes write nothing outside the folder, and nothing unwanted in it."""
    evil = {"../evil": b"x", "../../evil": b"x", f"{tmp_path}/evil": b"x", "..\\evil": b"x", "a/../../evil": b"x"}
    home = tmp_path / "home"
    out = home / "out"
    out.mkdir(parents=True)
    files = {f"m/{name}": data for name, data in CONTENT.items()} | evil | {"../config.json": b"{}"}
    paths = pieces(tmp_path, files)
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    unpack(paths, out, WANTED)
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} == before
    assert {path.name for path in out.iterdir()} == WANTED


def test_importing_the_registry_is_light() -> None:
    """Names are resolved without any framework: a command that only asks starts fast."""
    script = (
        "import sys\n"
        "from tasks.encoders.registry import available, resolve\n"
        "resolve('torchvision:ResNet18_Weights.IMAGENET1K_V1')\n"
        "available()\n"
        "heavy = {'torch', 'openvino', 'transformers', 'huggingface_hub', 'prefect', 'lancedb', 'PIL'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    assert run_python(script) == "[]\n"
