"""A reader: a local transformers model that writes a text from a prompt, and from a picture where it sees one.

Only safetensors weights of a folder are read; nothing is fetched, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SCHEME = "local:"
_CHARS = 8_000  # of a prompt
_TOKENS = 2_048  # of a prompt, where the model names no bound
_NO_WORDS = "vision-encoder-decoder"  # models of this type see a picture and take no prompt


class ReaderError(Exception):
    """A model that cannot be named, loaded or used so. `message` is one line, `mend` says what to do."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message}; {mend}")
        self.message = message
        self.mend = mend


def folder_of(name: str) -> Path:
    """The folder in the name of a generator, `local:FOLDER`. Raises `ReaderError`.

    >>> folder_of("local:models/blip").as_posix()
    'models/blip'
    """
    if not name.startswith(SCHEME) or not name.removeprefix(SCHEME):
        raise ReaderError(f"{name!r} names no generator", f"write {SCHEME}FOLDER, the folder of a transformers model")
    return Path(name.removeprefix(SCHEME)).expanduser()


def evidence_prompt(captions: Sequence[str]) -> str:
    """What a reader is asked for a caption, with the captions of similar items as its context, best first.

    >>> print(evidence_prompt(["a dog runs", "a brown dog"]))
    Captions of similar items:
    - a dog runs
    - a brown dog
    One caption that fits them best:
    """
    return "\n".join(
        ["Captions of similar items:", *(f"- {one}" for one in captions), "One caption that fits them best:"]
    )


class Reader:
    """A model in a folder: from text to text (T5, BART, GPT-2, Llama, …) or from picture and text to text (BLIP, …).

    Loaded once, in float32 on a CPU, in bfloat16 on a GPU. It writes greedily: the same input gives the same text.
    Raises `ReaderError` where the folder holds no such model.
    """

    def __init__(self, folder: str | Path, *, device: str = "auto") -> None:
        import torch
        from transformers import AutoConfig

        from tasks.encoders.runtime import has_cuda

        self.folder = Path(folder)
        self.name = f"{SCHEME}{folder}"
        """As it is called in params and on the command line."""
        if not (self.folder / "config.json").is_file():
            raise ReaderError(f"there is no config.json in {self.folder}", "give the folder of a transformers model")
        self._device = "cuda" if device != "cpu" and has_cuda() else "cpu"
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        self._type = str(self._loaded(AutoConfig).model_type)
        self.sees = self._type in _types("IMAGE_TEXT_TO_TEXT")
        """Whether it reads pictures."""
        if self.sees:
            auto = "AutoModelForImageTextToText"
        elif self._type in _types("SEQ_TO_SEQ_CAUSAL_LM"):
            auto = "AutoModelForSeq2SeqLM"
        elif self._type in _types("CAUSAL_LM"):
            auto = "AutoModelForCausalLM"
        else:
            raise ReaderError(f"{self.folder} holds a {self._type}, which writes no text", "give a model that does")
        import transformers

        self._model = self._loaded(getattr(transformers, auto), use_safetensors=True, dtype=dtype)
        self._model = self._model.eval().to(self._device)
        self._processor = self._image_processor = None
        if self._type == _NO_WORDS:
            self._image_processor = self._loaded(transformers.AutoImageProcessor)
        if self.sees and self._image_processor is None:
            self._processor = self._loaded(transformers.AutoProcessor)
            self._tokenizer = self._processor.tokenizer
        else:
            self._tokenizer = self._loaded(transformers.AutoTokenizer)
        self._tokenizer.truncation_side = "left"  # the question stands at the end

    def write(self, prompt: str, pixels: Pixels | None = None, max_new_tokens: int = 40) -> str:
        """What it writes to `prompt`, looking at `pixels` (h, w, 3) uint8 if it sees; may be empty.

        A model of the type vision-encoder-decoder takes no prompt. Raises `ReaderError` where a model that needs a
        picture is given none.
        """
        import torch

        from tasks.encoders.automodel import quiet

        prompt = prompt[-_CHARS:]
        with quiet(), torch.inference_mode():
            inputs = self._inputs(prompt, pixels if self.sees else None, max_new_tokens).to(self._device)
            ids = self._model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)[0]
        given = inputs.get("input_ids")
        if given is not None and not self._model.config.is_encoder_decoder:
            count = given.shape[1]
            if ids[:count].tolist() == given[0].tolist():
                return self._text(ids[count:])
            return self._text(ids).removeprefix(self._text(given[0])).strip()
        return self._text(ids)

    def _inputs(self, prompt: str, pixels: Pixels | None, max_new_tokens: int) -> Any:
        if self.sees and pixels is None and self._type not in _types("CAUSAL_LM"):
            raise ReaderError(f"{self.folder} writes of pictures alone", "give it a picture, or a model of texts")
        if self._image_processor is not None:
            return self._image_processor(pixels, return_tensors="pt")
        chat = self._processor if self._processor is not None else self._tokenizer
        if getattr(chat, "chat_template", None):
            content = [{"type": "image"}] if pixels is not None else []
            said: Any = [*content, {"type": "text", "text": prompt}] if self._processor is not None else prompt
            prompt = chat.apply_chat_template(
                [{"role": "user", "content": said}], add_generation_prompt=True, tokenize=False
            )
        if self._processor is not None:
            return self._processor(text=prompt, images=pixels, return_tensors="pt")
        room = self._room(max_new_tokens)
        return self._tokenizer(
            prompt, return_tensors="pt", truncation=True, max_length=room, return_token_type_ids=False
        )

    def _room(self, max_new_tokens: int) -> int:
        """Tokens of a prompt at most: what the model's positions leave beside its own words."""
        config = self._model.config
        stated = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or _TOKENS
        beside = 0 if config.is_encoder_decoder else max_new_tokens
        return max(1, min(int(stated) - beside, _TOKENS))

    def _text(self, ids: Any) -> str:
        return " ".join(self._tokenizer.decode(ids, skip_special_tokens=True).split())

    def _loaded(self, auto: Any, **more: Any) -> Any:
        from tasks.encoders.automodel import quiet

        try:
            with quiet():
                return auto.from_pretrained(str(self.folder), local_files_only=True, trust_remote_code=False, **more)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError) as error:
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ReaderError(
                f"{self.folder} cannot be loaded ({cause})", "save a whole model with safetensors weights"
            ) from error


def _types(kind: str) -> frozenset[str]:
    """The model types that the transformers library loads for a task."""
    from transformers.models.auto import modeling_auto

    return frozenset(getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES"))
