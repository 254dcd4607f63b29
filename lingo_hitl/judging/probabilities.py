"""Ratings from a local model's next-token probabilities, for models that cannot follow a judging format.

The model is asked for a number, and the rating is the expectation over the probabilities of the tokens
1 to 5, as Deita's scorers do (Liu et al., 2024). The spread is that distribution's standard deviation,
between 0 (all on one number) and 2 (half on 1, half on 5). No text is generated, so that a rating costs
one pass over a short prompt; the rationale says in plain words that and how the number came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lingo_hitl.generation.prompts import render
from lingo_hitl.judging.verdict import Verdict

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel

PROMPTS = "lingo_hitl.judging.prompts"
CHOICES = ("1", "2", "3", "4", "5")
PREFIX = {"ko": "평점: ", "en": "Rating: "}
TEXT_BYTES = {"packaged": 240, "transformers": 8_000}
"""How much of each text the judge reads, in bytes of UTF-8, the same for question, answer and reference; of
a dialogue twice that. A small model on a laptop's processor would need minutes for more."""

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


def rate_by_probabilities(llm: ChatModel, views: Sequence[dict[str, Any]], *, aspect: str) -> list[list[Verdict]]:
    """One verdict for each text of each view; a view is what the written judges' Tasks take."""
    limit = TEXT_BYTES[llm.spec.model.partition("/")[0]]
    given: dict[int, list[Verdict]] = {i: [] for i in range(len(views))}
    for language, prefix in PREFIX.items():
        asked = [
            (i, text)
            for i, view in enumerate(views)
            if view["language"] == language
            for text in _questions(view, aspect, limit)
        ]
        if not asked:
            continue
        shares = llm.choice_probabilities(
            [[{"role": "user", "content": text}] for _, text in asked], CHOICES, prefix=prefix
        )
        for (i, _), share in zip(asked, shares, strict=True):
            given[i].append(_verdict(share, language))
    return list(given.values())


def expectation(shares: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the ratings 1 to 5 with these probabilities, float64 [5]."""
    values = np.arange(1, len(CHOICES) + 1)
    mean = float(shares @ values)
    return min(max(mean, 1.0), 5.0), float(np.sqrt(max(0.0, shares @ (values - mean) ** 2)))


def _questions(view: dict[str, Any], aspect: str, limit: int) -> list[str]:
    language = view["language"]
    kind = "dialogue" if "dialogue" in view else "answer"
    named = {"aspect": ASPECTS[language][aspect], "what": WHAT[language][kind]}
    if kind == "dialogue":
        shown = [_cut(view["dialogue"], 2 * limit)]
    else:
        ask, answer = ("질문", "답변") if language == "ko" else ("Question", "Answer")
        question = _cut(view["instruction"], limit)
        shown = [f"{ask}: {question}\n{answer}: {_cut(text, limit)}" for text in view["texts"]]
    reference = _cut(view.get("reference", ""), limit)
    return [render(PROMPTS, language, "probability", shown=text, reference=reference, **named) for text in shown]


def _verdict(shares: np.ndarray, language: str) -> Verdict:
    mean, spread = expectation(shares)
    listed = ", ".join(f"{choice}: {share:.0%}" for choice, share in zip(CHOICES, shares, strict=True))
    said = (
        f"글로 쓴 근거가 아니라 모델의 다음 토큰 확률에서 얻은 점수입니다. 기댓값 {mean:.2f} ({listed})"
        if language == "ko"
        else f"No written reason: the expectation {mean:.2f} of the model's next-token probabilities ({listed})"
    )
    return Verdict(mean, spread, said)


def _cut(text: str, limit: int) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore") + " …"
