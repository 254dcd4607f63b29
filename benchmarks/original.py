"""The loops of the original KoQuality, told again: what ours are compared with.

After nayohan/KoQuality @59bdf7a, gen_dataset_curation/: one text at a time, gradients on, embeddings padded
to 512 tokens, each k-means fitted twice. Written from a description of its behaviour; no code of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

READ_TOKENS = 1024  # of a text whose perplexity is taken
STRIDE = 256
PADDED_TOKENS = 512


def prepare(rows: Sequence[dict[str, str]]) -> pd.DataFrame:
    """Columns instruction, output, id, len; stripped, without empty ones, sorted by length."""
    table = pd.DataFrame(rows)
    table["instruction"] = table["instruction"].str.strip()
    table["len"] = table["instruction"].str.len()
    table = table[(table["instruction"] != "") & (table["output"] != "")]
    return table.sort_values("len", kind="stable", ignore_index=True)


def perplexities(table: pd.DataFrame, model: Any, tokenizer: Any) -> pd.DataFrame:
    """Adds `ppl`, rounded to two decimals; rows without one vanish. Sorted by (len, ppl)."""
    found = [perplexity(text, model, tokenizer) for text in table["instruction"]]
    table = table.assign(ppl=[round(value, 2) for value in found]).dropna(subset=["ppl"])
    return table.sort_values(["len", "ppl"], kind="stable", ignore_index=True)


def perplexity(text: str, model: Any, tokenizer: Any) -> float:
    """Of one text, in windows of the model's context that move by 256 tokens; their losses count the same."""
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=READ_TOKENS)["input_ids"]
    tokens, losses, before = ids.shape[1], [], 0
    for begin in range(0, tokens, STRIDE):
        end = min(begin + model.config.max_position_embeddings, tokens)
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : -(end - before)] = -100
        losses.append(model(window, labels=labels).loss)
        before = end
        if end == tokens:
            break
    return torch.exp(torch.stack(losses).mean()).item() if losses else math.nan


def length_groups(lengths: Sequence[int], groups: int) -> NDArray[np.int64]:
    """Between the quantiles of the length; int64 [n]. A group may be empty."""
    lengths = np.asarray(lengths)
    edges = [*np.quantile(lengths, [i / groups for i in range(groups)]), np.inf]
    found = np.zeros(len(lengths), dtype=np.int64)
    for group in range(groups):
        found[(lengths >= edges[group]) & (lengths < edges[group + 1])] = group
    return found


def embeddings(texts: Sequence[str], model: Any, tokenizer: Any) -> Vectors:
    """The pooler's output for each text, float32 [n, d]."""
    found = []
    for text in texts:
        item = tokenizer(text, padding="max_length", truncation=True, max_length=PADDED_TOKENS, return_tensors="pt")
        found.append(model(**item).pooler_output.detach().numpy()[0])
    return np.stack(found)


def clusters(vectors: Vectors, groups: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """k-means clusters inside each length group, int64 [n]; fitted, then fitted again to predict."""
    from sklearn.cluster import KMeans

    found = np.zeros(len(vectors), dtype=np.int64)
    for group in np.unique(groups):
        inside = vectors[groups == group]
        kmeans = KMeans(n_clusters=count, init="k-means++", n_init=10, random_state=42)
        kmeans.fit(inside)
        found[groups == group] = kmeans.fit_predict(inside)
    return found


def sample(table: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """`ppl`: from each cluster every floor(1/ratio)-th row along its perplexity.

    Takes columns len_group, cluster, ppl, len.
    """
    step, parts = math.floor(1 / ratio), []
    for group in sorted(table["len_group"].unique()):
        inside = table[table["len_group"] == group]
        for cluster in sorted(inside["cluster"].unique()):
            members = inside[inside["cluster"] == cluster].sort_values("ppl")
            parts.append(members.iloc[[i for i in range(len(members)) if i % step == 0]])
    return pd.concat(parts).sort_values(["len_group", "cluster", "ppl", "len"], kind="stable")
