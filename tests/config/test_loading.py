from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.errors import UserError
from config.loading import load_profile, override, overrides_of, profile_names
from config.params import EncodeParams, PipelineParams
from config.settings import Settings
from tasks.encoders.registry import resolve


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No modalign.toml and no setting but those of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODALIGN_WORKSPACE", raising=False)


def test_the_packaged_profiles_are_valid() -> None:
    """Each profile of the project loads, and its builtin and torchvision encoders resolve to their modality."""
    assert profile_names() == ["best", "classic", "demo", "small", "strong", "tuxpaint"]
    for name in profile_names():
        for modality, encoders in load_profile(name).encode.encoders.items():
            for encoder in encoders:
                if not encoder.startswith("hf:"):
                    assert resolve(encoder, modality).modality == modality
                else:
                    assert len(encoder.partition("@")[2].partition("?")[0]) == 40


@pytest.mark.parametrize("name", profile_names())
def test_overrides_are_what_makes_params(name: str) -> None:
    """The texts by which params differ from the usual ones make them again, whatever is nested in them."""
    plain, params = PipelineParams(), load_profile(name, ["align.heads.steps=7", 'assess.slices=["größe"]'])
    texts = overrides_of(params, plain)
    assert override(plain, texts) == params
    assert {"align.heads.steps=7", 'assess.slices=["größe"]'} <= set(texts)
    assert overrides_of(plain, plain) == []


def test_the_later_word_wins(tmp_path: Path) -> None:
    """modalign.toml overrides the profile, --set overrides it, arguments override all; the rest stays."""
    Path("modalign.toml").write_text('[params]\ncollection = "a"\n[params.align]\ndim = 64\nseed = 7\n')
    params = load_profile("small", ["align.dim=32"], source="photos")
    assert (params.source, params.collection, params.align.dim, params.align.seed) == ("photos", "a", 32, 7)
    assert params.encode == load_profile("small").encode


def test_encoders_are_replaced_as_a_whole() -> None:
    """Encoders given for one modality set do not mix with those of the profile."""
    text = 'encode.encoders={"image": ["builtin:efficientnet-lite0"], "text": ["builtin:mpnet"]}'
    assert load_profile("small", [text]).encode.encoders == {
        "image": ("builtin:efficientnet-lite0",),
        "text": ("builtin:mpnet",),
    }


def test_mistakes_are_named() -> None:
    """A wrong key, a wrong value, an unknown profile and a broken file each say what and where."""
    for overrides, part in ((["align.dims=3"], "align.dims"), (["align.dim=0"], "align.dim"), (["=3"], "key=value")):
        with pytest.raises(UserError, match=part):
            load_profile("small", overrides)
    with pytest.raises(UserError, match="best, classic, demo, small, strong"):
        load_profile("huge")
    Path("mine.toml").write_text("[align\n")
    with pytest.raises(UserError, match=r"mine\.toml is not TOML"):
        load_profile("mine.toml")
    with pytest.raises(ValidationError, match="two modalities"):
        EncodeParams(encoders={"image": ("builtin:efficientnet-lite0",)})


def test_settings_come_from_four_places_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over the environment, that over .env, that over the file, that over the default."""
    assert Settings().workspace == tmp_path / "modalign-data"
    Path("modalign.toml").write_text('[settings]\nworkspace = "file"\nthreads = 3\n[params.align]\ndim = 9\n')
    assert Settings().workspace == tmp_path / "file"
    Path(".env").write_text("MODALIGN_WORKSPACE=dotenv\nOTHER=1\n")
    assert Settings().workspace == tmp_path / "dotenv"
    monkeypatch.setenv("MODALIGN_WORKSPACE", "environment")
    assert Settings().workspace == tmp_path / "environment"
    assert Settings(workspace=Path("argument")).workspace == tmp_path / "argument"
    assert Settings().threads == 3


def test_unknown_settings_are_named() -> None:
    """A misspelt setting in the file is an error that lists the known ones."""
    Path("modalign.toml").write_text('[settings]\nworkspce = "x"\n')
    with pytest.raises(UserError, match=r"'workspce'.*workspace"):
        Settings()


def test_params_survive_json() -> None:
    """Params go through JSON, as Prefect sends them, and come back equal; frozen and closed on the way."""
    params = load_profile("best")
    assert PipelineParams.model_validate_json(params.model_dump_json()) == params
    with pytest.raises(ValidationError):
        params.align.dim = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        PipelineParams.model_validate({"sauce": "x"})


def test_profiles_hold_only_what_differs() -> None:
    """A profile is short: it repeats no default but its encoders."""
    folder = Path(__file__).parents[2] / "config" / "profiles"
    defaults = PipelineParams().model_dump()
    for path in folder.glob("*.toml"):
        for table, values in tomllib.loads(path.read_text()).items():
            if isinstance(values, dict):
                assert all(defaults[table][key] != value for key, value in values.items() if key != "encoders")
