"""Tiny real parts: a BERT and a ViT with random weights saved to disk, and a collection of drawn pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 60, 220),
    "yellow": (230, 210, 40),
    "black": (10, 10, 10),
}
SHAPES = ("circle", "square", "bar", "cross")
PLACES = ("left", "right", "top", "bottom")
WORDS = (*COLOURS, *SHAPES, *PLACES, "a", "the", "on", "at", "picture", "of", "and", "long", "word", "##s", "猫")


def save_encoders(folder: Path) -> tuple[str, str]:
    """Save a tiny ViT and a tiny BERT under `folder`; give their encoder names (image, text)."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    image, text = folder / "vit", folder / "bert"
    vit = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    ViTModel(vit).eval().save_pretrained(image)
    about = {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (image / "preprocessor_config.json").write_text(json.dumps(about))
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    bert = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(bert).eval().save_pretrained(text)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(text / "tokenizer.json"))
    return f"local:{image}?pooling=mean", f"local:{text}?pooling=mean"


def draw(number: int) -> tuple[Image.Image, str]:
    """Picture `number` and the words that describe it; distinct numbers below 80 give distinct scenes."""
    colour = list(COLOURS)[number % 5]
    shape = SHAPES[number // 5 % 4]
    place = PLACES[number // 20 % 4]
    noise = np.random.default_rng(number).integers(0, 12, (48, 48, 3))
    picture = Image.fromarray((230 + noise).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    x, y = {"left": (4, 14), "right": (26, 14), "top": (14, 4), "bottom": (14, 26)}[place]
    box = (x, y, x + 18, y + 18)
    if shape == "circle":
        pen.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        pen.rectangle(box, fill=COLOURS[colour])
    elif shape == "bar":
        pen.rectangle((x, y + 6, x + 18, y + 12), fill=COLOURS[colour])
    else:
        pen.rectangle((x, y + 7, x + 18, y + 11), fill=COLOURS[colour])
        pen.rectangle((x + 7, y, x + 11, y + 18), fill=COLOURS[colour])
    return picture, f"a {colour} {shape} at the {place}"


def write_collection(root: Path, count: int, *, first: int = 0) -> Path:
    """A folder of `count` drawn PNGs with metadata.jsonl, two captions a picture."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(first, first + count):
        picture, words = draw(number)
        picture.save(root / f"{number:04}.png")
        lines.append(json.dumps({"file_name": f"{number:04}.png", "captions": [words, f"picture of {words}"]}))
    with (root / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return root
