from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tasks.encoders.protocol import EncoderError
from tasks.encoders.registry import resolve
from tasks.encoders.windows import windows
from tasks.media.audio import Sound, decode
from tasks.media.registry import Limits
from tests.sounds import Samples, tone, written
from tests.tasks.encoders.parts import TORCH, TORCH_BF16, cosines, loaded
from tests.tasks.encoders.test_company import assert_company_is_nothing, differ

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SPEECH = {**SMALL, "conv_dim": [16, 32], "conv_kernel": [10, 5], "conv_stride": [5, 4], "num_feat_extract_layers": 2}
FAMILIES = ("wav2vec2", "wav2vec2 masked", "hubert", "wavlm", "ast", "whisper", "clap")


def tiny(family: str) -> tuple[Any, Any, str]:
    """A tiny configuration, its feature extractor, and the options that the name needs."""
    import transformers as hf

    speech = {**SPEECH, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    if family == "wav2vec2 masked":
        config = hf.Wav2Vec2Config(**speech, feat_extract_norm="layer", do_stable_layer_norm=True)
        return config, hf.Wav2Vec2FeatureExtractor(return_attention_mask=True), "?window=0.5&hop=0.4"
    if family in ("wav2vec2", "hubert", "wavlm"):
        kind = {"wav2vec2": hf.Wav2Vec2Config, "hubert": hf.HubertConfig, "wavlm": hf.WavLMConfig}[family]
        return kind(**speech), hf.Wav2Vec2FeatureExtractor(), "?window=0.5&hop=0.4"
    if family == "ast":
        config = hf.ASTConfig(**SMALL, max_length=64, num_mel_bins=32)
        return config, hf.ASTFeatureExtractor(max_length=64, num_mel_bins=32), ""
    if family == "whisper":
        config = hf.WhisperConfig(
            vocab_size=64, d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=64, num_mel_bins=16, max_source_positions=50,
            pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
        )  # fmt: skip
        return config, hf.WhisperFeatureExtractor(feature_size=16, chunk_length=1), ""
    audio = {
        "patch_embeds_hidden_size": 16, "hidden_size": 64, "depths": [1, 1, 1], "num_attention_heads": [2, 2, 2],
        "num_hidden_layers": 3, "window_size": 4, "spec_size": 64, "num_mel_bins": 16, "projection_dim": 24,
    }  # fmt: skip
    text = {**SMALL, "vocab_size": 64, "projection_dim": 24}
    config = hf.ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
    extractor = hf.ClapFeatureExtractor(
        feature_size=16, sampling_rate=16_000, max_length_s=1, fft_window_size=512, hop_length=160,
        frequency_max=8_000, truncation="rand_trunc",
    )  # fmt: skip
    return config, extractor, ""


def save(family: str, folder: Path) -> tuple[Any, Any, str]:
    """Save a tiny random model; give it, its feature extractor and its encoder's name."""
    import torch
    from transformers import AutoModel

    config, extractor, options = tiny(family)
    torch.manual_seed(1)
    model = AutoModel.from_config(config).eval()
    for value in model.parameters():
        if value.dim() > 1:  # larger than the library's start, so that sounds have distinct vectors
            torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor, f"local:{folder}{options}"


def made() -> list[Samples]:
    """Sounds at 16 kHz, shorter than a window and longer."""
    return [tone(seconds, 200 + 300 * n, 16_000, noise=n) for n, seconds in enumerate((0.1, 0.37, 1.0, 1.3))]


def sounds() -> list[Sound]:
    """The same, decoded."""
    return [decode(written(one, rate=16_000, subtype="FLOAT"), Limits()) for one in made()]


def by_hand(family: str, model: Any, extractor: Any, samples: Samples) -> npt.NDArray[np.float32]:
    """One window through the library's own extractor and forward, unpadded where the model takes any length."""
    import torch

    about = extractor(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        if family == "clap":
            return model.get_audio_features(input_features=about["input_features"]).pooler_output[0].numpy()
        if family == "ast":
            return model(**about).pooler_output[0].numpy()
        if family == "whisper":
            hidden = model.get_encoder()(about["input_features"]).last_hidden_state[0]
            return hidden[: -(-len(samples) // 320)].mean(0).numpy()
        values = about["input_values"]
        count = int(model._get_feat_extract_output_lengths(torch.tensor(values.shape[1])))
        padded = torch.nn.functional.pad(values, (0, 8_000 - values.shape[1]))
        mask = (torch.arange(8_000) < values.shape[1]).long()[None] if family == "wav2vec2 masked" else None
        return model(padded, attention_mask=mask).last_hidden_state[0, :count].mean(0).numpy()


LENGTHS = {"ast": (10_480, 5_240), "whisper": (16_000, 8_000), "clap": (16_000, 8_000)}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_transformers(tmp_path: Path, family: str) -> None:
    """Each family's parts are what transformers gives for the windows, states of padding left out; an item is their
    mean. In bf16 nearly so, with and without a mask.
    """
    model, extractor, name = save(family, tmp_path / "model")
    spec = resolve(name, "audio")
    assert (spec.modality, spec.dim) == ("audio", 24 if family == "clap" else 32)
    length, hop = LENGTHS.get(family, (8_000, 6_400))
    also = [(TORCH_BF16, 0.99)] if family in ("wav2vec2 masked", "clap") else []
    for runtime, least in ((TORCH, 0.99999), *also):
        encoder = loaded(spec, runtime, tmp_path)
        inputs = [encoder.transform(one) for one in sounds()]
        vectors, _, _, parts = encoder.encode(inputs)
        for samples, vector, part in zip(made(), vectors, parts, strict=True):
            expected = list(windows([samples], length, hop))
            raw = np.stack([by_hand(family, model, extractor, window) for _, window in expected])
            assert part.starts == pytest.approx([start / 16_000 for start, _ in expected])
            assert cosines(part.vectors, raw).min() >= least
            assert cosines(vector[None], raw.mean(axis=0, keepdims=True)).min() >= least
        assert differ(vectors)


@pytest.mark.parametrize("family", FAMILIES)
def test_company_is_nothing(tmp_path: Path, family: str) -> None:
    """Each family obeys the law in both precisions: windows are encoded in batches of one shape."""
    _, _, name = save(family, tmp_path / "model")
    for runtime in (TORCH, TORCH_BF16):
        encoder = loaded(resolve(name), runtime, tmp_path)
        assert differ(assert_company_is_nothing(encoder, [encoder.transform(one) for one in sounds()], alone=2))


def test_windows_are_options(tmp_path: Path) -> None:
    """Window and hop in seconds are options and part of the fingerprint; what does not fit is refused, and so are
    options of videos.
    """
    from tasks.encoders.fingerprint import fingerprint

    _, _, name = save("clap", tmp_path / "clap")
    encoder = loaded(resolve(f"{name}?window=0.5&hop=0.25"), TORCH, tmp_path)
    assert len(encoder.encode([encoder.transform(sounds()[2])]).parts[0].starts) == 3
    marks = {fingerprint(resolve(f"{name}{more}"), TORCH) for more in ("", "?hop=0.25", "?window=0.5")}
    assert len(marks) == 3
    for options in ("window=2", "hop=1.5", "window=0.5&hop=0.6"):
        with pytest.raises(EncoderError, match="does not fit"):
            loaded(resolve(f"{name}?{options}"), TORCH, tmp_path)
    for options, message in (
        ("window=x", "window=x is not understood"),
        ("hop=0", "hop=0 is not understood"),
        ("clips=2", "unknown option clips"),
        ("pooling=cls", "does not fit audio"),
        ("modality=text", "modality 'text' is not known"),
    ):
        with pytest.raises(EncoderError, match=message):
            resolve(f"{name}?{options}")
    with pytest.raises(EncoderError, match="encodes audio, not text"):
        resolve(name, "text")


def test_fused_windows_are_refused(tmp_path: Path) -> None:
    """A CLAP that fuses windows drawn at random is refused: its vectors would change from run to run."""
    _, _, name = save("clap", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["audio_config"]["enable_fusion"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="at random"):
        resolve(name)


def test_an_absent_extractor_is_named(tmp_path: Path) -> None:
    """A model without its preprocessor_config.json is refused in one line that says what to save."""
    _, _, name = save("wav2vec2", tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match="feature extractor cannot be loaded") as caught:
        loaded(resolve(name), TORCH, tmp_path)
    assert "preprocessor_config.json" in caught.value.mend
