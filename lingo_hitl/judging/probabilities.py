"""Ratings from a local model's next-token probabilities, for models that cannot follow a judging format.

The model is asked for a number, and the rating is the expectation over the probabilities of the tokens
1 to 5, as Deita's scorers do (Liu et al., 2024). The spread is that distribution's standard deviation,
between 0 (all on one number) and 2 (half on 1, half on 5). No text is generated, so that a rating costs
one pass over a short prompt; the rationale says in plain words that and how the number came about.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lingo_hitl.generation.prompts import render
from lingo_hitl.judging.verdict import Verdict
from lingo_hitl.judging.written import BY_TURN, CORRECTNESS, PROMPTS, View, turns_of

if TYPE_CHECKING:
    from lingo_hitl.models.local import LocalModel

CHOICES = ("1", "2", "3", "4", "5")
PREFIX = {"ko": "평점: ", "en": "Rating: "}
TEXT_TOKENS = {"packaged": 64, "transformers": 1_500}
"""How many tokens of each text the judge reads, the same for question, answer and reference; of a dialogue
twice that. A small model on a laptop's processor would need minutes for more."""

WHAT = {"ko": {"answer": "답변", "dialogue": "대화"}, "en": {"answer": "answer", "dialogue": "conversation"}}
ASPECTS = {
    "ko": {
        "overall-rating": "전반적인 품질",
        "helpfulness": "유용함",
        "relevance": "관련성",
        "depth": "깊이",
        "creativity": "창의성",
        "honesty": "정직성",
        "truthfulness": "진실성",
        "instruction-following": "지시 이행 수준",
        "correctness": "정확성",
    },
    "en": {
        "overall-rating": "overall quality",
        "helpfulness": "helpfulness",
        "relevance": "relevance",
        "depth": "depth",
        "creativity": "creativity",
        "honesty": "honesty",
        "truthfulness": "truthfulness",
        "instruction-following": "instruction following",
        "correctness": "correctness",
    },
}


async def rate_by_probabilities(
    llm: LocalModel, view: View, *, aspect: str, prompts: str | None = None
) -> list[Verdict]:
    """One verdict for each text of a view, or for each answer where the aspect is `correctness-by-turn`.

    Each text is judged by itself, so that there is no order to lean to. The packaged models know English
    only: they are asked in English, whatever the language of the texts.

    Args:
        prompts: a folder of prompts that go before the shipped ones.
    """
    provider = llm.spec.model.partition("/")[0]
    language = "en" if provider == "packaged" else view["language"]
    shown, about = _questions(view, aspect, language, _Cutter(llm, TEXT_TOKENS[provider]))
    questions = [render(PROMPTS, language, "probability", folder=prompts, shown=text, **about) for text in shown]
    asked = (
        llm.achoice_probabilities([{"role": "user", "content": question}], CHOICES, prefix=PREFIX[language])
        for question in questions
    )
    return [_verdict(shares, view["language"]) for shares in await asyncio.gather(*asked)]


def expectation(shares: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the ratings 1 to 5 with these probabilities, float64 [5]."""
    values = np.arange(1, len(CHOICES) + 1)
    mean = float(shares @ values)
    return min(max(mean, 1.0), 5.0), float(np.sqrt(max(0.0, shares @ (values - mean) ** 2)))


@dataclass(frozen=True)
class _Cutter:
    """Cuts texts to a number of the model's own tokens."""

    llm: LocalModel
    limit: int

    def __call__(self, text: str, *, times: int = 1) -> str:
        tokenizer = self.llm.weights.tokenizer
        limit = self.limit * times
        # No token is longer than 64 bytes by far: the tail of a very long text need not be tokenized.
        ids = tokenizer(text[: limit * 64], add_special_tokens=False)["input_ids"]
        if len(ids) <= limit:
            return text
        return str(tokenizer.decode(ids[:limit])).rstrip("\ufffd") + " …"


def _questions(view: View, aspect: str, language: str, cut: _Cutter) -> tuple[list[str], dict[str, str]]:
    """What is shown for each text, and what the prompt says about all of them."""
    kind = "dialogue" if aspect == CORRECTNESS else "answer"
    ask, answer = ("질문", "답변") if language == "ko" else ("Question", "Answer")
    if aspect == CORRECTNESS:
        shown = [cut("\n".join(f"{m['role']}: {m['content']}" for m in view["messages"]), times=2)]
    elif aspect == BY_TURN:
        shown = [
            f"{ask}: {cut(turn['question'])}\n{answer}: {cut(turn['answer'])}" for turn in turns_of(view["messages"])
        ]
    else:
        question = cut(view["instruction"])
        shown = [f"{ask}: {question}\n{answer}: {cut(text)}" for text in view["texts"]]
    known = ASPECTS[language]
    about = {
        "aspect": known.get(aspect, known[CORRECTNESS]),
        "what": WHAT[language][kind],
        "reference": cut(view.get("reference", "")),
    }
    return shown, about


def _verdict(shares: np.ndarray, language: str) -> Verdict:
    mean, spread = expectation(shares)
    listed = ", ".join(f"{choice}: {share:.0%}" for choice, share in zip(CHOICES, shares, strict=True))
    said = (
        f"글로 쓴 근거가 아니라 모델의 다음 토큰 확률에서 얻은 점수입니다. 기댓값 {mean:.2f} ({listed})"
        if language == "ko"
        else f"No written reason: the expectation {mean:.2f} of the model's next-token probabilities ({listed})"
    )
    return Verdict(mean, spread, said)
