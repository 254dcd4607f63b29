"""Language models on this machine: texts, and how likely a few given answers are.

What holds: the random numbers of a text depend on nothing but the seed, the conversation and the
number of the sample, so neither the other rows of a batch nor an interrupted run change what is drawn.
Batches of another shape may round differently in the last bits, so that where two tokens are almost
equally likely a text may still differ; the journal keeps what was written first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from lingo_hitl.models.chat import ChatModel, Conversation, Request, Sampling
from lingo_hitl.models.chat_prompts import length_batches, padded, prompt_ids
from lingo_hitl.models.choices import choice_logs
from lingo_hitl.models.completion import Completion, completion_key
from lingo_hitl.models.loop import Batcher
from lingo_hitl.models.packaged import smollm2
from lingo_hitl.models.stop import Stop
from lingo_hitl.models.weights import Weights, fingerprint, load_weights

if TYPE_CHECKING:
    from distilabel.typing import FormattedInput

AT_ONCE = 2  # batches that are gathered before they are sorted by length
PATIENCE_S = 0.01  # how long a first request waits for those of other rows


class LocalModel(ChatModel):
    """`packaged/smollm2-135m` and `transformers/<path or hub id>`."""

    gives_probabilities: ClassVar[bool] = True
    _batcher: Batcher[_Text | _Choice, Any] | None = PrivateAttr(None)
    _unpicklable: ClassVar[tuple[str, ...]] = ("_batcher",)

    def load(self) -> None:
        super().load()
        if not self.session.offline:
            _ = self.weights

    @property
    def weights(self) -> Weights:
        """The model and its tokenizer, shared by all who name the same one."""
        provider, _, name = self.spec.model.partition("/")
        return load_weights(str(smollm2()) if provider == "packaged" else name, self.spec.device)

    def _identity(self) -> str:
        provider, _, name = self.spec.model.partition("/")
        weights = fingerprint(name) if provider == "transformers" else ""
        return f"{self.spec.portable} {weights}".strip()

    async def _answer(self, request: Request, sampling: Sampling) -> Completion:
        completion: Completion = await self._gathered()(_Text(request, sampling, self.session.stop))
        self.session.tally.of(self.spec.portable).came(completion)
        return completion

    async def achoice_probabilities(
        self, conversation: FormattedInput, choices: Sequence[str], *, prefix: str = ""
    ) -> np.ndarray:
        """How likely each choice is as the next words, float64 [choices]; see `choice_probabilities`."""
        choice = _Choice(self._messages(conversation), tuple(choices), prefix, self.session.stop)
        shares: np.ndarray = await self._gathered()(choice)
        return shares

    def _gathered(self) -> Batcher[_Text | _Choice, Any]:
        """Where requests to these weights come together, those of other specs with the same batch size too."""
        if self._batcher is None:
            weights, rows = self.weights, self.spec.batch_size
            if rows not in weights.batchers:
                weights.batchers[rows] = Batcher(
                    partial(_work, weights, rows),
                    most=AT_ONCE * rows,
                    patience_s=PATIENCE_S,
                    group=lambda item: item.group,
                )
            self._batcher = weights.batchers[rows]
        return self._batcher

    def choice_probabilities(
        self, conversations: Sequence[FormattedInput], choices: Sequence[str], *, prefix: str = ""
    ) -> np.ndarray:
        """How likely the model is to go on with each choice, among the choices.

        A choice of several tokens counts with the product of their probabilities. Conversations that do
        not fit the context lose their beginning.

        Args:
            choices: what the assistant might say next, e.g. "1" to "5"; at least two, all different.
            prefix: what the assistant has said before, e.g. "Rating: ".

        Returns:
            float64 [conversations, choices]; each row sums to 1.
        """
        return _probabilities(self.weights, [self._messages(c) for c in conversations], choices, prefix)


@dataclass(frozen=True)
class _Text:
    """A text to be written."""

    request: Request
    sampling: Sampling
    stop: Stop

    @property
    def group(self) -> Hashable:
        """The same for all texts that one batch can hold; a row's seed is its own."""
        return replace(self.sampling, seed=0), id(self.stop)


@dataclass(frozen=True)
class _Choice:
    """Choices to be weighed."""

    messages: Conversation
    choices: tuple[str, ...]
    prefix: str
    stop: Stop

    @property
    def group(self) -> Hashable:
        return self.choices, self.prefix, id(self.stop)


def _work(weights: Weights, rows: int, items: Sequence[_Text | _Choice]) -> Sequence[Any]:
    """What is asked of a model by items of one group: completions, or probabilities float64 [items, choices]."""
    items[0].stop.check()
    texts = [item for item in items if isinstance(item, _Text)]
    if texts:
        return _written(weights, rows, texts)
    choices = [item for item in items if isinstance(item, _Choice)]
    return list(_probabilities(weights, [item.messages for item in choices], choices[0].choices, choices[0].prefix))


def _written(weights: Weights, rows: int, items: Sequence[_Text]) -> list[Completion]:
    """Texts for all items, in their order; batches of like lengths."""
    sampling = items[0].sampling
    room = max(weights.context - sampling.max_new_tokens, weights.context // 2)
    most = min(sampling.max_new_tokens, weights.context - room)
    completions: dict[int, Completion] = {}
    with weights.lock:
        prompts = [prompt_ids(weights, item.request.messages) for item in items]
        cut = [prompt[-room:] for prompt in prompts]
        for batch in length_batches([len(prompt) + most for prompt in cut], rows=rows):
            streams = [_stream(items[i].request, items[i].sampling) for i in batch]
            texts = _write(weights, [cut[i] for i in batch], replace(sampling, max_new_tokens=most), streams)
            for i, completion in zip(batch, texts, strict=True):
                lost = len(prompts[i]) - len(cut[i])
                note = f"the first {lost} of {len(prompts[i])} prompt tokens were cut to fit" if lost else None
                completions[i] = replace(completion, note=note)
    return [completions[i] for i in range(len(items))]


def _probabilities(
    weights: Weights, conversations: Sequence[Conversation], choices: Sequence[str], prefix: str
) -> np.ndarray:
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(choices):
        raise ValueError(f"choices {list(choices)}: expected two or more texts, not empty, all different")
    with weights.lock:
        logs = choice_logs(weights, conversations, choices, prefix)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _stream(request: Request, sampling: Sampling) -> random.Random:
    return random.Random(completion_key("", request.messages, {"seed": sampling.seed}, request.sample))


def _write(
    weights: Weights, prompts: Sequence[Sequence[int]], sampling: Sampling, streams: Sequence[random.Random]
) -> list[Completion]:
    """One batch of completions; `seconds` is each one's share of the batch's time."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    from lingo_hitl.models.nucleus import DrawPerRow

    started = time.monotonic()
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=sampling.max_new_tokens,
        pad_token_id=weights.pad_id,
        eos_token_id=weights.stop_ids or None,
    )
    draw = LogitsProcessorList([DrawPerRow(sampling, streams)] if sampling.temperature > 0 else [])
    inputs = padded(weights, prompts)
    with torch.inference_mode():
        whole = weights.model.generate(**inputs, generation_config=config, logits_processor=draw)
    written: list[list[int]] = whole[:, inputs["input_ids"].shape[1] :].tolist()
    seconds = (time.monotonic() - started) / len(prompts)
    stops = set(weights.stop_ids)
    plain = not getattr(weights.tokenizer, "chat_template", None)
    completions = []
    for prompt, ids in zip(prompts, written, strict=True):
        end = next((at for at, token in enumerate(ids) if token in stops), None)
        text = weights.tokenizer.decode(ids[:end], skip_special_tokens=True)
        # A model without a chat template goes on to write the user's next question.
        said, turn, _ = text.partition("\nUser:") if plain else (text, "", "")
        finish = "length" if end is None and not turn else "stop"
        tokens = len(ids) if end is None else end + 1
        completions.append(Completion(said.strip(), finish, None, len(prompt), tokens, seconds))
    return completions
