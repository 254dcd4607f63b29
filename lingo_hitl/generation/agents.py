"""The two agents of a dialogue as distilabel Tasks: who each is told to be, and the conversation as each sees it.

Each agent sees the other as the user and itself as the assistant, as messages, never as one string. The
idea of a model that is told to be the user is UltraChat's (Ding et al., 2023).
"""

from __future__ import annotations

from typing import Any

from distilabel.steps.tasks.base import Task

from lingo_hitl.generation.phrases import spoken
from lingo_hitl.generation.prompts import PROMPTS, render
from lingo_hitl.generation.replies import unlabelled

OTHER_ROLE = {"user": "assistant", "assistant": "user"}
Messages = list[dict[str, str]]


class _Agent(Task):
    """What both agents share: a system prompt of their own before which the spec's may stand.

    Attributes:
        prompts: a folder of prompts that go before the shipped ones.
    """

    prompts: str | None = None

    @property
    def outputs(self) -> list[str]:
        return ["generation", "model_name"]

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"generation": None if output is None else unlabelled(output)}

    def _system(self, text: str) -> dict[str, str]:
        own = getattr(self.llm, "spec", None)
        before = own.system_prompt if own is not None else None
        return {"role": "system", "content": f"{before}\n\n{text}" if before else text}


class UserAgent(_Agent):
    """Plays the user: rewrites the seed question to open the conversation, then asks on.

    Input columns: `persona` (Persona), `language`, `question` (the seed's), `messages` (so far, from
    the labeler's side: the user's are "user"); optional `attempt`, from 1 on with a reminder to ask.
    """

    @property
    def inputs(self) -> list[str]:
        return ["persona", "language", "question", "messages"]

    def format_input(self, input: dict[str, Any]) -> Messages:
        language, persona = input["language"], input["persona"]
        system = render(PROMPTS, language, "user_agent", folder=self.prompts, title=persona.title(language))
        opening = render(PROMPTS, language, "opening", folder=self.prompts, question=input["question"])
        seen = [{"role": OTHER_ROLE[m["role"]], "content": m["content"]} for m in input["messages"]]
        messages = [self._system(system), {"role": "user", "content": opening}, *seen]
        if input.get("attempt") and seen:
            # Small models answer on where they should ask. The conversation itself stays as it is.
            reminder = render(PROMPTS, language, "reminder", folder=self.prompts)
            messages[-1] = {"role": "user", "content": f"{seen[-1]['content']}\n\n{reminder}"}
        return messages


class PersonaAgent(_Agent):
    """Plays the persona: answers the last question, at first with the seed's answer in view.

    Catchphrases are in view until they came up as often as is welcome: a model that is reminded of a phrase
    in every turn says it in every turn.

    Input columns: `persona`, `language`, `reference` (the seed's answer or ""), `messages`, `phrase` (what this
    answer is to begin with, where it is the first, or to end with; or None).
    """

    @property
    def inputs(self) -> list[str]:
        return ["persona", "language", "reference", "messages", "phrase"]

    def format_input(self, input: dict[str, Any]) -> Messages:
        language, persona = input["language"], input["persona"]
        first = len(input["messages"]) == 1
        said = "\n".join(message["content"] for message in input["messages"] if message["role"] == "assistant")
        left = [
            {"text": text, "times": times}
            for phrase in persona.catchphrases
            if (text := phrase.text(language)) and (times := phrase.welcome - len(spoken(text).findall(said))) > 0
        ]
        system = render(
            PROMPTS,
            language,
            "persona_agent",
            folder=self.prompts,
            title=persona.title(language),
            role=persona.role(language),
            speech_level=persona.speech_level,
            catchphrases=left,
            reference=input["reference"] if first else "",
            prefix=input["phrase"] if first else None,
            suffix=None if first else input["phrase"],
        )
        return [self._system(system), *input["messages"]]
