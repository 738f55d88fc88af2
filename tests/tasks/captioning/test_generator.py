from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.captioning.generator import Reader, ReaderError, folder_of
from tests.readers import save_blip, save_captioner, save_gpt2, save_t5

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)


def test_a_decoder_writes_what_is_most_likely_word_by_word(tmp_path: Path) -> None:
    """A reader of texts writes greedily: each word is the argmax of the model's logits, in a plain loop of our own."""
    import torch
    from transformers import AutoTokenizer, GPT2LMHeadModel

    reader = Reader(save_gpt2(tmp_path))
    model = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("the red circle is")["input_ids"]
    written: list[int] = []
    while len(written) < 6 and 1 not in written:
        written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    expected = tokenizer.decode(written, skip_special_tokens=True)
    assert expected
    assert reader.write("the red circle is", max_new_tokens=6) == expected
    assert not reader.sees


def test_an_encoder_and_decoder_reads_its_prompt(tmp_path: Path) -> None:
    """T5 writes the same greedy words as a loop over its decoder, and the prompt is no part of them."""
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    reader = Reader(save_t5(tmp_path))
    model = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    asked = tokenizer("what is this", return_tensors="pt")["input_ids"]
    written = [0]
    while len(written) < 7 and 1 not in written:
        written.append(int(model(input_ids=asked, decoder_input_ids=torch.tensor([written])).logits[0, -1].argmax()))
    expected = tokenizer.decode(written, skip_special_tokens=True)
    assert expected
    assert reader.write("what is this", PICTURE, max_new_tokens=6) == expected


def test_a_prompt_longer_than_the_model_keeps_its_end(tmp_path: Path) -> None:
    """Of a prompt that has no room, the end is read: the question stands there. 48 positions less 8 are 40 words."""
    reader = Reader(save_gpt2(tmp_path, positions=48))
    end = " ".join(["red circle at top"] * 10)
    assert reader.write(f"{'blue ' * 100}{end}", max_new_tokens=8) == reader.write(end, max_new_tokens=8)


def test_a_captioner_sees_the_picture_alone(tmp_path: Path) -> None:
    """A vision encoder with a decoder writes of the picture whatever the prompt, and refuses to write without one."""
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

    reader = Reader(save_captioner(tmp_path))
    model = VisionEncoderDecoderModel.from_pretrained(tmp_path).eval()
    seen = AutoImageProcessor.from_pretrained(tmp_path)(PICTURE, return_tensors="pt")["pixel_values"]
    written = [3]
    while len(written) < 6 and 1 not in written:
        logits = model(pixel_values=seen, decoder_input_ids=torch.tensor([written])).logits
        written.append(int(logits[0, -1].argmax()))
    expected = AutoTokenizer.from_pretrained(tmp_path).decode(written, skip_special_tokens=True)
    assert reader.sees
    assert reader.write("what is this", PICTURE, max_new_tokens=5) == expected
    assert reader.write("a red bar", PICTURE, max_new_tokens=5) == expected
    with pytest.raises(ReaderError, match="pictures alone"):
        reader.write("what is this")


def test_what_a_model_repeats_of_its_prompt_is_left_out(tmp_path: Path) -> None:
    """BLIP goes on from its prompt and gives both: the reader gives what is new, at most as much as asked for."""
    reader = Reader(save_blip(tmp_path))
    text = reader.write("the red circle", PICTURE, max_new_tokens=5)
    assert text
    assert not text.startswith("the red circle")
    assert len(text.split()) <= 5


@pytest.mark.parametrize("what", ["nothing", "no writer", "pickle", "code"])
def test_only_whole_safe_models_are_read(tmp_path: Path, what: str) -> None:
    """No folder, a model that cannot write, pickled weights, code beside the model: refused, and none of it run."""
    folder = tmp_path / "model"
    if what != "nothing":
        save_gpt2(folder)
    if what == "pickle":
        import torch

        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    if what in ("no writer", "code"):
        config = json.loads((folder / "config.json").read_text())
        config |= (
            {"model_type": "vit"}
            if what == "no writer"
            else {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
        )
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ReaderError):
        Reader(folder)
    assert not (tmp_path / "ran").exists()


def test_the_name_of_a_generator() -> None:
    """local:FOLDER names one; anything else is refused rather than looked up anywhere."""
    assert folder_of("local:/models/t5") == Path("/models/t5")
    for wrong in ("t5-small", "hf:org/t5", "local:"):
        with pytest.raises(ReaderError):
            folder_of(wrong)
