"""Any distilabel LLM, with the journal in between."""

from __future__ import annotations

from typing import Any

from distilabel.models.llms import OpenAILLM
from distilabel.models.llms.base import LLM
from pydantic import SecretStr

from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.llm import journaled
from lingo_hitl.models.session import Session


class Echo(LLM):
    """A model that is asked in batches, and says how large they were."""

    sizes: list[int] = []  # noqa: RUF012 - pydantic copies it

    @property
    def model_name(self) -> str:
        return "echo"

    def generate(self, inputs: Any, num_generations: int = 1, temperature: float = 1.0) -> Any:
        """Say it again.

        Args:
            inputs: conversations.
            num_generations: of each.
            temperature: said, too.
        """
        self.sizes.append(len(inputs))
        return [{"generations": [f"{messages[-1]['content']} {temperature:g}"]} for messages in inputs]


def only(model, *prompts, **options):
    return [group[0] for group in model.complete([[{"role": "user", "content": p}] for p in prompts], **options)]


def test_a_model_of_batches_is_asked_in_batches_and_only_for_what_the_journal_lacks(tmp_path):
    spec = LLMSpec(model="mine/echo", batch_size=4, temperature=0.5)
    with Journal(tmp_path / "j") as journal:
        session, echo = Session(journal), Echo()
        model = journaled(echo, spec, session=session)
        assert [c.text for c in only(model, *"abcdef")] == [f"{p} 0.5" for p in "abcdef"]
        assert sum(echo.sizes) == 6 and max(echo.sizes) == 4
        assert [c.text for c in only(model, "a", "g", temperature=1)] == ["a 1", "g 1"]
        assert [c.text for c in only(model, "f", "h")] == ["f 0.5", "h 0.5"]
        assert sum(echo.sizes) == 9 and len(journal) == 9
    assert session.tally.models()["mine/echo"]["calls"] == 9


def test_an_asynchronous_model_s_error_costs_that_row_alone_and_is_asked_again_by_the_next_run(provider):
    provider.reply_to = lambda prompt: (500, {"error": {"message": "oops"}}) if prompt == "bad" else None
    inner = OpenAILLM(model="tiny", base_url=f"{provider.url}/v1", api_key=SecretStr("none"), max_retries=0)
    session = Session.in_memory()
    model = journaled(inner, LLMSpec(model="mine/tiny"), session=session)
    good, bad = only(model, "good", "bad")
    assert good.text == "answer to good"
    assert bad.text is None and bad.finish.startswith("InternalServerError: ")
    assert session.tally.models()["mine/tiny"] == {
        "calls": 1,
        "failed": 1,
        "input_tokens": good.input_tokens,
        "output_tokens": good.output_tokens,
    }
    provider.reply_to = lambda prompt: None
    assert only(model, "good", "bad")[1].text == "answer to bad"
    assert provider.prompts.count("good") == 1
