"""Generated rows, and judges that know what each text is worth."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq

from lingo_hitl.config import JudgeConfig
from lingo_hitl.judging.judge import judge
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from lingo_hitl.records import GENERATED, JUDGED, identified, to_table
from lingo_hitl.stages import RowFile

BASE = {"seed": "s", "source": "songs", "source_id": "1", "language": "ko"}
PREFERENCE = identified(
    {**BASE, "task": "preference", "instruction": "별이란?", "completions": ["천체", "돌", "불"],
     "models": ["a", "b", "c"], "reference": "빛나는 천체"}
)  # fmt: skip
INSTRUCTION = identified(
    {**BASE, "task": "instruction", "instruction": "What is a star?", "output": "A sun.", "models": ["reference"],
     "language": "en"}
)  # fmt: skip
UNANSWERED = identified({**BASE, "task": "instruction", "instruction": "답이 없는 질문", "output": "", "models": ["x"]})
DIALOGUE = identified(
    {**BASE, "task": "dialogue", "instruction": "왜?", "reference": "대기 때문", "models": ["p"], "persona": "orbit",
     "messages": [{"role": role, "content": text} for role, text in (
         ("user", "왜?"), ("assistant", "공기 때문이에요."), ("user", "정말?"), ("assistant", "네, 그래요."))]}
)  # fmt: skip

WORTH = {"천체": 4, "돌": 2, "불": 3, "A sun.": 5}
"""What a fair judge gives each text."""


class Hasty(Session):
    """A session whose models hardly pause before they try again."""

    def llm(self, spec):
        model = super().llm(spec)
        if hasattr(model, "backoff_s"):
            model.backoff_s = 0.001
        return model


def run(rows, judges, folder, *, journal=None, budget=None, **options):
    """The stage's outcome and its rows as Python values."""
    file = folder / f"{len(list(folder.iterdir()))}.parquet"
    table = to_table(rows, GENERATED)
    with RowFile(file, pa.schema([*GENERATED, *JUDGED])) as out:
        session = Hasty(journal or Journal.in_memory(), budget=budget)
        outcome = judge(table, JudgeConfig(judges=judges, **options), session=session, out=out)
    return outcome, pq.read_table(outcome.rows)


def shown(messages):
    """The texts of an UltraFeedback question, in the order in which they stand there."""
    return re.findall(r"^<(?:글|text) \d+> (.*)$", "\n".join(m["content"] for m in messages), re.M)


def by_label(ratings):
    return "네, 평가합니다.\n\n" + "\n\n".join(
        f"#### 글 {n}의 평가\n평점: {r}\n근거: 까닭 {r}" for n, r in enumerate(ratings, start=1)
    )


def fair(model, messages):
    """A judge that rates each text by its worth, wherever it stands; dialogues by what is asked for."""
    question = messages[0]["content"]
    if "답변을 하나씩" in question:
        return "#### 답변 1의 평가\n점수: 4.5\n\n#### 답변 2의 평가\n점수: 2"
    if "대화:" in question:
        return "점수: 3.5\n근거: 대체로"
    return by_label([WORTH[text] for text in shown(messages)])


def fair_in_json(model, messages):
    ratings = [WORTH[text] for text in shown(messages)]
    return json.dumps({f"text_{n}": {"rationale": f"까닭 {r}", "rating": r} for n, r in enumerate(ratings, start=1)})
