"""Whether a judge is of the family of a model that wrote what it judges.

A model prefers its own texts (Panickssery et al., 2024, "LLM Evaluators Recognize and Favor Their Own
Generations"), and models of one family share training data and faults.
"""

from __future__ import annotations

import re

from lingo_hitl.config import GenerateConfig, JudgeConfig
from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec

_FAMILIES = {
    "gemini": r"gemini",
    "gemma": r"gemma",
    "gpt": r"(?<![a-z])(?:chat)?gpt|(?<![a-z])o[134](?![a-z0-9])",
    "claude": r"claude",
    "llama": r"llama",
    "qwen": r"qwen|(?<![a-z])qwq",
    "exaone": r"exaone",
    "mistral": r"mistral|mixtral|ministral|magistral",
    "smollm": r"smollm",
    "solar": r"(?<![a-z])solar",
    "deepseek": r"deepseek",
    "hyperclova": r"hyperclova",
    "kanana": r"kanana",
    "polyglot": r"polyglot|koalpaca",
    "phi": r"(?<![a-z])phi(?![a-z])",
    "glm": r"(?<![a-z])(?:chat)?glm",
    "command": r"command-r",
}
_NO_NAME = re.compile(r"instruct|chat|base|it|hf|gguf|awq|gptq|int\d|q\d.*|v?\d.*|")


def families_of(spec: LLMSpec) -> set[str]:
    """The families that a model's own name tells; a distilled model may be of two.

    A model that is not known makes a family of what is left of its name without sizes and versions, so
    that `my-model-2b` and `my-model-7b-instruct` are one family, and another folder is another.
    """
    name = spec.model.rstrip("/").rpartition("/")[2].lower()
    known = {family for family, pattern in _FAMILIES.items() if re.search(pattern, name)}
    words = [word for word in re.split(r"[-_.: ]+", name) if not _NO_NAME.fullmatch(word)]
    return known or {"-".join(words) or name}


def same_family_warnings(generate: GenerateConfig, judge: JudgeConfig) -> list[str]:
    """One line for each judge that is of a writer's family; empty where none is.

    Raises:
        UserError: there is such a judge, and the config does not say `judge.same_family: allowed`.
    """
    warnings = []
    for spec in judge.judges:
        writers = [writer for writer in _writers(generate) if families_of(spec) & families_of(writer)]
        if writers:
            names = ", ".join(dict.fromkeys(writer.model for writer in writers))
            warnings.append(
                f"judge {spec.model} is of the same family as {names}, which wrote what it judges: models favour "
                "texts of their own kind"
            )
    if warnings and judge.same_family != "allowed":
        raise UserError(
            f"{warnings[0]}. Take a judge of another family, or say `same_family: allowed` under `judge` in the config."
        )
    return warnings


def _writers(generate: GenerateConfig) -> list[LLMSpec]:
    writers: list[LLMSpec] = []
    if generate.preference:
        writers += generate.preference.pool
        writers += [generate.preference.evolve.llm] if generate.preference.evolve else []
    if generate.dialogue:
        writers += [generate.dialogue.assistant, generate.dialogue.user]
    return writers
