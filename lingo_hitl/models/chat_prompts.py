"""Conversations as the token ids that a model on this machine takes, and those in rectangles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lingo_hitl.models.chat import Conversation
from lingo_hitl.models.weights import Weights

BATCH_TOKENS = 16_384  # padded tokens that pass through the model side by side
_PLAIN_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


def _prompt_text(weights: Weights, messages: Conversation) -> str | None:
    """The conversation in the model's own chat form, or None where its tokenizer has no template for it."""
    from jinja2 import TemplateError

    if not getattr(weights.tokenizer, "chat_template", None):
        return None
    going_on = messages[-1]["role"] == "assistant"
    for form in (messages, _system_in_question(messages)):
        try:
            return str(
                weights.tokenizer.apply_chat_template(
                    form, tokenize=False, add_generation_prompt=not going_on, continue_final_message=going_on
                )
            )
        except TemplateError:  # e.g. templates that refuse a system message
            continue
    return None


def _system_in_question(messages: Conversation) -> Conversation:
    """The same with the system message as the beginning of what comes next."""
    if messages[0]["role"] != "system" or len(messages) < 2:
        return messages
    merged = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [merged, *messages[2:]]


def _plain_text(messages: Conversation) -> str:
    """A conversation as a script, for models without a chat template."""
    lines = [f"{_PLAIN_ROLES.get(m['role'], m['role'])}: {m['content']}" for m in messages]
    return "\n".join(lines if messages[-1]["role"] == "assistant" else [*lines, "Assistant:"])


def prompt_ids(weights: Weights, messages: Conversation, said: str = "") -> list[int]:
    """The conversation, and what the assistant has begun to say, as the model's own token ids."""
    text = _prompt_text(weights, messages)
    plain = text is None
    whole = (_plain_text(messages) + (" " if said else "") if text is None else text) + said
    whole = whole.encode("utf-8", "replace").decode()
    ids: list[int] = weights.tokenizer(whole, add_special_tokens=plain)["input_ids"]
    # Tokenizers that close every text would otherwise end the completion before it begins.
    return ids[:-1] if plain and len(ids) > 1 and ids[-1] == weights.tokenizer.eos_token_id else ids


def length_batches(lengths: Sequence[int], *, rows: int) -> Iterator[list[int]]:
    """Positions in batches of like lengths, longest first, within `rows` and `BATCH_TOKENS`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) == rows or (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(weights: Weights, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Token ids and mask [rows, longest], padded on the left so that all rows end together."""
    import torch

    longest = max(map(len, rows))
    ids = [[weights.pad_id] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {
        "input_ids": torch.tensor(ids, device=weights.device),
        "attention_mask": torch.tensor(mask, device=weights.device),
    }
