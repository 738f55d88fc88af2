"""Tiny readers with random weights, saved to disk: text to text (T5, GPT-2), picture to text (ViT with GPT-2, BLIP)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")
WORDS = (
    *("a", "the", "red", "green", "blue", "yellow", "circle", "square", "bar", "cross", "at", "left", "right", "top"),
    *("bottom", "of", "and", "what", "is", "this"),
)


def save_t5(folder: Path) -> Path:
    """From text to text, with an encoder and a decoder."""
    from transformers import T5Config, T5ForConditionalGeneration

    size = _save_tokenizer(folder)
    config = T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    return _save(folder, T5ForConditionalGeneration, config)


def save_gpt2(folder: Path, positions: int = 48) -> Path:
    """From text to text, a decoder alone, with room for `positions` tokens."""
    from transformers import GPT2LMHeadModel

    return _save(folder, GPT2LMHeadModel, _gpt2(_save_tokenizer(folder), positions))


def save_captioner(folder: Path) -> Path:
    """From a picture to text, without a prompt: ViT and GPT-2."""
    from transformers import VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig, ViTImageProcessor

    eyes = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    words = _gpt2(_save_tokenizer(folder), 48, add_cross_attention=True, is_decoder=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(eyes, words)
    config.decoder_start_token_id, config.pad_token_id = 3, 0
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return _save(folder, lambda config: VisionEncoderDecoderModel(config=config), config)


def save_blip(folder: Path) -> Path:
    """From a picture and a prompt to text."""
    from transformers import AutoTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    size = _save_tokenizer(folder, closed=True)
    shape: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 32, "projection_dim": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip
    ids = {"bos_token_id": 3, "pad_token_id": 0, "eos_token_id": 1, "sep_token_id": 1}
    config = BlipConfig(
        text_config={**shape, **ids, "vocab_size": size, "encoder_hidden_size": 16, "max_position_embeddings": 64},
        vision_config={**shape, "image_size": 32, "patch_size": 16},
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return _save(folder, BlipForConditionalGeneration, config)


def _gpt2(size: int, positions: int, **more: Any) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=positions, bos_token_id=3, eos_token_id=1,
        tie_word_embeddings=False, **more,
    )  # fmt: skip


def _save(folder: Path, kind: Any, config: Any) -> Path:
    """A model of random weights whose logits of the special tokens are 0, so that it writes words."""
    import torch

    from tasks.encoders.automodel import quiet

    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("lm_head.weight", "predictions.decoder.weight", "shared.weight")):
                weights.normal_()
                weights[: len(SPECIAL)] = 0
    with quiet():
        model.save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, *, closed: bool = False) -> int:
    """A tokenizer of whole words; `closed` puts <s> before and </s> behind a text. Gives its number of tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if closed:
        tokenizer.post_processor = processors.BertProcessing(("</s>", 1), ("<s>", 3))
    names = dict(zip(("pad_token", "eos_token", "unk_token", "bos_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "attention_mask"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)
    fast.save_pretrained(folder)
    return len(vocabulary)
