"""Several completions of one prompt: a pool of models, one rewrite, and where asked for the corpus's own output.

    load >> [answer(model) for model in pool] >> group >> evolve

Two completions of a prompt are never the same text: a model that says what stands there already is asked
for up to two more samples, and left out where it says it again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distilabel.steps.tasks import EvolQuality, TextGeneration

from lingo_hitl.config import Evolve, LLMSpec, PreferenceConfig
from lingo_hitl.errors import UserError
from lingo_hitl.generation.prompts import render
from lingo_hitl.generation.replies import alone, ask, same_text
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.llm import load_llm
from lingo_hitl.records import Row, dropped, identified

MOST = 4  # completions of one prompt; the labelling template has no more fields
REFERENCE = "reference"  # who wrote the corpus's own output
METHODS_KO = (
    "답변이 사용자에게 더 도움이 되게 하세요.",
    "답변이 #주어진 질문#에 더 잘 맞게 하세요.",
    "답변을 더 깊이 있게 하세요.",
    "답변을 더 창의적으로 하세요.",
    "답변을 더 자세하게 하세요.",
)
"""Deita's five methods of rewriting (Liu et al., 2024), which distilabel's EvolQuality has in English."""


@dataclass
class Prompt:
    """A seed with the completions it has so far, and who wrote each."""

    seed: Row
    texts: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def view(self) -> dict[str, Any]:
        """What TextGeneration takes, and what a reply is held against."""
        return {"instruction": self.seed["instruction"], "texts": list(self.texts)}

    def add(self, text: str, model: str) -> None:
        self.texts.append(text)
        self.models.append(model)


class Rewrite(EvolQuality):
    """distilabel's EvolQuality with a method that depends on the texts alone, not on their place in a batch."""

    def _apply_random_mutation(self, instruction: str, response: str) -> str:
        seed = hashlib.blake2b(f"{instruction}\0{response}".encode("utf-8", "replace")).digest()
        name = random.Random(seed).choice(self.mutation_templates_names)
        before, _, after = self.mutation_templates[name].partition("<PROMPT>")
        # Not str.replace one after the other: an instruction may itself speak of <RESPONSE>.
        between, _, end = after.partition("<RESPONSE>")
        return f"{before}{instruction}{between}{response}{end}"


def check_size(config: PreferenceConfig) -> None:
    """Refuse a config whose rows could never have 2 to 4 completions.

    Raises:
        UserError: fewer or more.
    """
    size = len(config.pool) + (config.evolve is not None) + config.include_reference
    if not 2 <= size <= MOST:
        raise UserError(
            f"generate.preference: pool, evolve and include_reference make {size} completions of a prompt; "
            f"expected 2 to {MOST}. Change the pool."
        )


def complete(
    seeds: Sequence[Row], config: PreferenceConfig, *, journal: Journal
) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Rows of task "preference", dropped seeds, and how many completions were left out as the same.

    The order of a row's completions is that of a hash of their texts, so that place says nothing about
    the model; `models` tells who wrote each.

    Raises:
        UserError: a model that cannot be had.
    """
    prompts = [Prompt(seed) for seed in seeds]
    if config.include_reference:
        for prompt in prompts:
            if prompt.seed["output"]:
                prompt.add(prompt.seed["output"], REFERENCE)
    for spec in config.pool:
        _answer(prompts, spec, journal)
    if config.evolve:
        _evolve(prompts, config.evolve, journal)
    return _grouped(prompts)


def _answer(prompts: Sequence[Prompt], spec: LLMSpec, journal: Journal) -> None:
    """Each prompt answered by one model."""
    task = alone(TextGeneration, load_llm(spec, journal=journal))
    replies = ask(task, [prompt.view() for prompt in prompts], what=spec.label, refuse=_refuse)
    for prompt, reply in zip(prompts, replies, strict=True):
        if reply.text is None:
            prompt.faults.append(f"{spec.label}: {reply.fault}")
        else:
            prompt.add(reply.text, spec.label)


def _evolve(prompts: Sequence[Prompt], config: Evolve, journal: Journal) -> None:
    """Each prompt's first completion by a model, rewritten `times` times; the last rewrite joins the others."""
    llm = load_llm(config.llm, journal=journal)
    label = f"{config.llm.label}+evolquality"
    for language in ("ko", "en"):
        templates = {"mutation_templates": _templates_ko()} if language == "ko" else {}
        task = alone(Rewrite, llm, num_evolutions=1, **templates)
        origins = {
            i: next((t for t, m in zip(p.texts, p.models, strict=True) if m != REFERENCE), None)
            for i, p in enumerate(prompts)
            if p.seed["language"] == language
        }
        current = {i: text for i, text in origins.items() if text is not None}
        for _ in range(config.times):
            going_on = list(current)
            rows = [{**prompts[i].view(), "response": current[i]} for i in going_on]
            replies = ask(task, rows, what=label, refuse=_refuse_rewrite, column="evolved_response")
            for i, reply in zip(going_on, replies, strict=True):
                if reply.text is None:
                    prompts[i].faults.append(f"{label}: {reply.fault}")
                    del current[i]
                else:
                    current[i] = reply.text
        for i, text in current.items():
            prompts[i].add(text, label)


def _refuse(view: dict[str, Any], text: str) -> str | None:
    if same_text(text, view["instruction"]):
        return "only repeats the prompt"
    if any(same_text(text, other) for other in view["texts"]):
        return "the same text as another completion"
    return None


def _refuse_rewrite(view: dict[str, Any], text: str) -> str | None:
    if any(mark in text.lower() for mark in ("#given ", "#rewritten ", "#주어진 ", "#고친 ")):
        return "repeats the rewriting prompt"
    return _refuse(view, text)


def _templates_ko() -> dict[str, str]:
    package = "lingo_hitl.generation.prompts"
    return {f"method_{n}": render(package, "ko", "evolve", method=m) for n, m in enumerate(METHODS_KO)}


def _grouped(prompts: Sequence[Prompt]) -> tuple[list[Row], list[Row], dict[str, int]]:
    rows, bad = [], []
    for prompt in prompts:
        seed = prompt.seed
        written = sorted(zip(prompt.texts, prompt.models, strict=True), key=lambda pair: _place(seed, pair[0]))
        row = {
            "task": "preference",
            "seed": seed["id"],
            **{key: seed[key] for key in ("source", "source_id", "language", "instruction")},
            "reference": seed["output"] or None,
            "completions": [text for text, _ in written],
            "models": [model for _, model in written],
        }
        if len(written) < 2:
            why = f" ({prompt.faults[-1]})" if prompt.faults else ""
            bad.append(dropped({**row, "id": seed["id"]}, f"fewer than 2 different completions{why}"))
        else:
            rows.append(identified(row))
    left_out = sum(len(prompt.faults) for prompt in prompts)
    return rows, bad, {"completions left out": left_out}


def _place(seed: Row, text: str) -> bytes:
    return hashlib.blake2b(f"{seed['id']}\0{text}".encode("utf-8", "replace"), digest_size=8).digest()
