"""Models on this machine: what names them, where they lie, how they are loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lingo_hitl.errors import UserError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
_READ_WHOLE, _PIECES, _PIECE = 1 << 20, 256, 4096
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
    batchers: dict[int, Any] = field(default_factory=dict)  # by rows of a batch: where requests come together

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
    chosen = device_of(device)
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
    with loading(f"transformers/{source}", device):
        place = torch.device(device)
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
        if place.type == "cpu" and model.dtype in (torch.float16, torch.bfloat16):
            fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
            model = model.to(torch.bfloat16 if fast else torch.float32)
        model = model.to(place).eval()
    return Weights(source, model, tokenizer, context_of(model.config, tokenizer))


def source_of(spec: str) -> str | None:
    """The folder or hub id that `spec` names: `transformers/<it>` or, where it has a slash or is a folder, it alone.

    >>> source_of("transformers/gpt2"), source_of("EleutherAI/polyglot-ko-1.3b"), source_of("packaged/kiwi")
    ('gpt2', 'EleutherAI/polyglot-ko-1.3b', None)
    """
    provider, slash, rest = spec.partition("/")
    if provider == "transformers" and slash:
        return rest or None
    if provider == "packaged":
        return None
    return spec if slash or (spec and Path(spec).expanduser().is_dir()) else None


def files_of(source: str) -> dict[str, list[int]]:
    """Size and time of last change (ns) of each file of a model's folder; nothing for a hub id.

    Raises:
        UserError: as `model_folder`.
    """
    folder = Path(model_folder(source))
    if not folder.is_dir():
        return {}
    files = {path.relative_to(folder): path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    shown = {name: about for name, about in files.items() if not any(part.startswith(".") for part in name.parts)}
    return {name.as_posix(): [about.st_size, about.st_mtime_ns] for name, about in shown.items()}


@lru_cache
def fingerprint(source: str) -> str:
    """What stands for a model's folder wherever it lies: changed weights change it, a copy or a move does not.

    16 hex digits of a BLAKE2b over the names, sizes and contents of its files; of those above a megabyte
    256 evenly spaced pieces of 4 kB stand for the whole, which any training changes. "" for a hub id.

    Raises:
        UserError: as `model_folder`.
    """
    files = {Path(model_folder(source)) / name: name for name in files_of(source)}
    digest = hashlib.blake2b(digest_size=8)
    for path, name in files.items():
        size = path.stat().st_size
        digest.update(f"{name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _READ_WHOLE:
                digest.update(file.read())
                continue
            for piece in range(_PIECES):
                file.seek((size - _PIECE) * piece // (_PIECES - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest() if files else ""


def device_of(device: str | None) -> str:
    """`device`, or where none is named a GPU, or where there is none the CPU."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def model_folder(source: str) -> str:
    """`source` itself, or its absolute path where it names a folder, which is looked into first."""
    path = Path(source).expanduser()
    looks_local = path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1
    if not looks_local:
        return source
    if not path.is_dir():
        raise UserError(
            f"{source}: no such folder (looked at {path.absolute()}). "
            "Expected a folder saved by transformers, or a hub id such as owner/name."
        )
    if not (path / "config.json").is_file():
        raise UserError(f"{source}: the folder has no config.json. Expected a model saved by transformers.")
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(
            f"{source}: the folder has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}). "
            "Save it there with tokenizer.save_pretrained(folder)."
        )
    return str(path.absolute())


def context_of(config: Any, tokenizer: Any, *, taken: int = 0, otherwise: int = 4096) -> int:
    """The most tokens that a model takes at once.

    Args:
        taken: positions that no token can have.
        otherwise: where neither the model's configuration nor its tokenizer says.
    """
    config = config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    limits = [positions - taken if positions else None, tokenizer.model_max_length]
    return int(min((limit for limit in limits if limit and 0 < limit < 10**7), default=otherwise))


def need_torch(spec: str) -> None:
    """Fail where the packages are not installed that run models.

    Raises:
        UserError: torch or transformers is missing.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        raise UserError(f"{spec}: needs torch and transformers. Run `pip install 'lingo-hitl[local]'`.")


@contextmanager
def loading(spec: str, device: str) -> Iterator[None]:
    """While a model is loaded: quiet, and whatever goes wrong is told in one line.

    Raises:
        UserError: nothing could be loaded, whatever the library's own error was.
    """
    try:
        with quiet_transformers():
            yield
    except UserError:
        raise
    except Exception as error:  # each file format and each client of a hub has errors of its own
        raise UserError(
            f"{spec}: cannot be loaded on '{device}' ({first_line(error)}). "
            "Expected a folder saved by transformers, or a hub id that this machine can reach."
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's text that says something, at most 300 characters; else the error's kind."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:300] for line in lines if line), type(error).__name__)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without progress bars, advice and lines about retries while a model is loaded."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub")
    hub_before = hub.level
    hub.setLevel(logging.ERROR)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(hub_before)
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()
