"""Models of the real sizes on a GPU: rows a second, and the share of what its matrix unit was seen to give.

polyglot-ko-1.3b's GPT-NeoX and a base-size RoBERTa with random weights, in bfloat16. The same code runs with
small shapes on a CPU, which is how it is tested where no GPU is at hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoConfig

from benchmarks.floor import forward_flops, matmul_rate
from benchmarks.made_models import NEOX_TINY, POLYGLOT_1B, ROBERTA_BASE, ROBERTA_TINY, make_gpt_neox, make_roberta
from lingo_hitl.models.bulk import ModelSource, TextModel, compute_all
from lingo_hitl.models.causal_lm import PerplexityModel
from lingo_hitl.models.encoder import VectorModel

WARM_ROWS = 2_000


@dataclass(frozen=True)
class Loaded:
    """A model that is in memory already, as a source of itself: what is timed is the work, not the reading."""

    source: ModelSource
    model: TextModel

    def load(self) -> TextModel:
        return self.model

    def on(self, device: str) -> ModelSource:
        return self.source.on(device)

    @property
    def identity(self) -> dict[str, Any]:
        return self.source.identity

    @property
    def device(self) -> str | None:
        return self.source.device


def measure(*, rows: str, folder: str, device: str, tiny: bool) -> dict[str, Any]:
    """Rows and FLOPs a second of both models on `device`, and of a bfloat16 matrix product there.

    FLOPs are those of `floor.forward_flops`: padding does not count.
    """
    neox, roberta = (NEOX_TINY, ROBERTA_TINY) if tiny else (POLYGLOT_1B, ROBERTA_BASE)
    text = Path(rows).read_text(encoding="utf-8").splitlines()
    texts = pa.array([json.loads(line)["instruction"] for line in text], pa.large_string())
    paths = {name: Path(folder, name) for name in ("real-neox", "real-roberta")}
    make_gpt_neox(paths["real-neox"], neox, Path(rows), dtype="bfloat16")
    make_roberta(paths["real-roberta"], roberta, Path(rows), dtype="bfloat16")
    spare = {"dtype": "bfloat16", "device": device}
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU",
        "shapes": {
            "perplexity": f"GPT-NeoX {neox.layers} x {neox.hidden}",
            "embedding": f"RoBERTa {roberta.layers} x {roberta.hidden}",
        },
        "matrix": matmul_rate(dtype="bfloat16", device=device),
        "perplexity": _rates(PerplexityModel(str(paths["real-neox"]), **spare), texts),
        "embedding": _rates(VectorModel(str(paths["real-roberta"]), pooling="pooler", **spare), texts),
    }


def _rates(source: PerplexityModel | VectorModel, texts: pa.Array) -> dict[str, float]:
    loaded = Loaded(source, source.load())
    # Longest first, so that the largest batch has been seen before the clock runs.
    warm = sorted(texts.to_pylist(), key=len, reverse=True)[:WARM_ROWS]
    compute_all(pa.array(warm, pa.large_string()), loaded, what="warming up", folder=None, workers=1)
    device = source.device or "cpu"
    seconds = _seconds(device, lambda: compute_all(texts, loaded, what="rows", folder=None, workers=1))
    distinct = loaded.model.encode(list(set(texts.to_pylist())))
    needed = forward_flops(AutoConfig.from_pretrained(source.spec), [loaded.model.size(item) for item in distinct])
    return {"rows a second": len(texts) / seconds, "FLOPs a second": needed / seconds}


def _seconds(device: str, work: Callable[[], Any]) -> float:
    """Wall-clock seconds, what the GPU still has to do included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started
