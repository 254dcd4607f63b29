"""EvolQuality's prompt as a distilabel Task of one step, in Korean too."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from distilabel.steps.tasks.base import Task
from distilabel.steps.tasks.evol_quality.utils import MUTATION_TEMPLATES

from lingo_hitl.generation.prompts import PROMPTS, render

METHODS_KO = (
    "답변이 사용자에게 더 도움이 되게 하세요.",
    "답변이 #주어진 질문#에 더 잘 맞게 하세요.",
    "답변을 더 깊이 있게 하세요.",
    "답변을 더 창의적으로 하세요.",
    "답변을 더 자세하게 하세요.",
)
"""Deita's five methods of rewriting (Liu et al., 2024), which distilabel's EvolQuality has in English."""


class Rewrite(Task):
    """Rewrites a response to be better, by a method that depends on the texts alone.

    distilabel's own EvolQuality draws the method by the row's place in a batch, so that a rerun would ask
    something else. Input columns: `language`, `instruction`, `response`.

    Attributes:
        prompts: a folder of prompts that go before the shipped ones.
    """

    prompts: str | None = None

    @property
    def inputs(self) -> list[str]:
        return ["language", "instruction", "response"]

    @property
    def outputs(self) -> list[str]:
        return ["generation", "model_name"]

    def format_input(self, input: dict[str, Any]) -> list[dict[str, str]]:
        instruction, response = input["instruction"], input["response"]
        seed = hashlib.blake2b(f"{instruction}\0{response}".encode("utf-8", "replace")).digest()
        template = random.Random(seed).choice(_templates(input["language"], self.prompts))
        before, _, after = template.partition("<PROMPT>")
        # Not str.replace one after the other: an instruction may itself speak of <RESPONSE>.
        between, _, end = after.partition("<RESPONSE>")
        return [{"role": "user", "content": f"{before}{instruction}{between}{response}{end}"}]

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"generation": output}


def _templates(language: str, prompts: str | None) -> list[str]:
    if language == "ko":
        return [render(PROMPTS, "ko", "evolve", folder=prompts, method=method) for method in METHODS_KO]
    return list(MUTATION_TEMPLATES.values())
