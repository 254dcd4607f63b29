"""How likely a model on this machine is to go on with each of a few given answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from lingo_hitl.models.chat import Conversation
from lingo_hitl.models.chat_prompts import BATCH_TOKENS, length_batches, padded, prompt_ids
from lingo_hitl.models.weights import Weights


def choice_logs(
    weights: Weights, conversations: Sequence[Conversation], choices: Sequence[str], prefix: str
) -> np.ndarray:
    """Log-probability of each choice after each conversation and `prefix`, float64 [conversations, choices]."""
    logs = np.empty((len(conversations), len(choices)))
    rows: list[tuple[int, list[int], list[int], list[list[int]]]] = []  # conversation, choices, context, endings
    longest = weights.context
    for n, messages in enumerate(conversations):
        wholes = [prompt_ids(weights, messages, prefix + choice) for choice in choices]
        shared = _shared(wholes)
        context, endings = wholes[0][:shared], [whole[shared:] for whole in wholes]
        if all(len(ending) == 1 for ending in endings):
            rows.append((n, list(range(len(choices))), context[-longest:], endings))
        else:
            for c, ending in enumerate(endings):
                rows.append((n, [c], [*context, *ending[:-1]][-longest:], [ending]))
    if not conversations:
        return logs
    for batch in length_batches([len(row[2]) for row in rows], rows=BATCH_TOKENS):
        keep = max(len(rows[i][3][0]) for i in batch)
        ends = _last_log_probabilities(weights, [rows[i][2] for i in batch], keep)
        for i, end in zip(batch, ends, strict=True):
            n, which, _, endings = rows[i]
            steps = end[keep - len(endings[0]) :]  # [length of the endings, vocabulary]
            for c, ending in zip(which, endings, strict=True):
                logs[n, c] = sum(float(steps[at, token]) for at, token in enumerate(ending))
    return logs


def _shared(wholes: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with, leaving at least one to each."""
    most = min(map(len, wholes)) - 1
    return next((at for at in range(most) if any(a[at] != b[at] for a, b in pairwise(wholes))), most)


def _last_log_probabilities(weights: Weights, rows: Sequence[Sequence[int]], keep: int) -> Any:
    """Log-probabilities of the token after each of the last `keep` positions, float64 [rows, keep, vocabulary]."""
    import inspect

    import torch

    inputs = padded(weights, rows)
    accepted = inspect.signature(weights.model.forward).parameters
    if "position_ids" in accepted:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = keep
    with torch.inference_mode(), _full_precision_logits(weights.model):
        logits = weights.model(**inputs, use_cache=False).logits[:, -keep:]
        return logits.double().log_softmax(-1).cpu()


@contextmanager
def _full_precision_logits(model: Any) -> Iterator[None]:
    """Logits in float32: bfloat16 ones lie so far apart (1/8 at 16) that different choices come out equal."""
    import torch

    head = model.get_output_embeddings()
    if head is None or head.weight.dtype == torch.float32:
        yield
        return

    def exactly(module: Any, inputs: tuple[Any, ...], _: Any) -> Any:
        bias = None if module.bias is None else module.bias.float()
        return torch.nn.functional.linear(inputs[0].float(), module.weight.float(), bias)

    hook = head.register_forward_hook(exactly)
    try:
        yield
    finally:
        hook.remove()
