"""Causal language models on this machine: where they lie, how they are loaded, once a process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingo_hitl.errors import UserError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
_loaded: dict[tuple[str, str], Weights] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class Weights:
    """A model with its tokenizer. `lock` is held while either works: tokenizers refuse two threads at once."""

    name: str
    model: Any
    tokenizer: Any
    context: int  # tokens that prompt and completion may have together
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def device(self) -> Any:
        return self.model.device

    @property
    def stop_ids(self) -> list[int]:
        """Tokens after which a completion is over."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return sorted({i for i in [*ids, self.tokenizer.eos_token_id] if i is not None})

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else (self.stop_ids or [0])[0])


def load_weights(source: str, device: str | None = None) -> Weights:
    """The causal language model in a folder or on the hub, on `device` (a GPU where there is one).

    On a CPU half-precision weights are computed in bfloat16 where AVX-512 makes that the faster one,
    else in float32; float32 weights stay as they are.

    Raises:
        UserError: no such folder, a folder without model or tokenizer, a hub id that cannot be had,
            an unknown device.
    """
    import torch

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _loading:
        if (source, chosen) not in _loaded:
            _loaded[source, chosen] = _load(source, chosen)
        return _loaded[source, chosen]


def forget_weights() -> None:
    """Drop every loaded model, so that its memory is free once nobody uses it."""
    with _loading:
        _loaded.clear()


def _load(source: str, device: str) -> Weights:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = model_folder(source)
    model: Any
    try:
        place = torch.device(device)
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
        if place.type == "cpu" and model.dtype in (torch.float16, torch.bfloat16):
            fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
            model = model.to(torch.bfloat16 if fast else torch.float32)
        model = model.to(place).eval()
    except (OSError, ValueError, RuntimeError, ImportError, AssertionError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"transformers/{source}: cannot be loaded on '{device}' ({first[:300]}). "
            "Expected a folder saved by transformers, or a hub id that this machine can reach."
        ) from error
    return Weights(source, model, tokenizer, context_of(model, tokenizer))


def model_folder(source: str) -> str:
    """`source` itself, or its absolute path where it names a folder, which is looked into first."""
    path = Path(source).expanduser()
    looks_local = path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1
    if not looks_local:
        return source
    if not path.is_dir():
        raise UserError(
            f"transformers/{source}: no such folder (looked at {path.absolute()}). "
            "Expected a folder saved by transformers, or a hub id such as owner/name."
        )
    if not (path / "config.json").is_file():
        raise UserError(
            f"transformers/{source}: the folder has no config.json. Expected a model saved by transformers."
        )
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(
            f"transformers/{source}: the folder has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}). "
            "Save it there with tokenizer.save_pretrained(folder)."
        )
    return str(path.absolute())


def context_of(model: Any, tokenizer: Any) -> int:
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and limit < 10**7]
    return int(min(limits, default=4096))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bars and advice while a model is loaded."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()
