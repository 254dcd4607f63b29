"""The three labelling tasks: what each looks like in Argilla, and how a row becomes a record of it.

Korean comes first, English below it: the titles and guidelines here are all that a labeler reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lingo_hitl.judging.dialogue_quality.figures import FIGURES
from lingo_hitl.records import Task, judged_texts, main_text

if TYPE_CHECKING:
    import argilla as rg

RATINGS = [1, 2, 3, 4, 5]
VECTOR = "meaning"

CHAT_MESSAGES_MAX = 500
CHAT_CHARACTERS_MAX = 20_000
"""Argilla's own limits of a chat field: rows beyond them are dropped with the reason."""

SCALE = """
| 점수 | 뜻 · Meaning |
|---|---|
| 5 | 그대로 써도 됩니다 · ready to use |
| 4 | 조금만 다듬으면 됩니다 · needs a touch |
| 3 | 쓸모는 있으나 빠진 것이 있습니다 · useful, something is missing |
| 2 | 틀렸거나 많이 부족합니다 · wrong or thin |
| 1 | 쓸 수 없습니다 · unusable |

점수 칸에 미리 찍힌 값이 있다면 **모델의 제안**입니다. 먼저 읽고, 스스로 판단한 뒤에 고쳐 주세요.
*A value filled in beforehand is a model's suggestion. Read first, judge for yourself, then change it.*

단축키 · Shortcuts: `1`–`5` 점수 · rating, `Enter` 제출 · submit, `Backspace` 버림 · discard, `→` 다음 · next.
"""

GUIDELINES: dict[Task, str] = {
    "instruction": f"""## 지시문과 답변 검증 · Validate an instruction and its output

1. 지시문을 읽습니다. 답변이 **지시를 따랐는지, 사실인지, 자연스러운 한국어인지** 봅니다.
2. 점수를 매깁니다.
3. 3점 이하라면, 할 수 있을 때 **더 나은 답변**을 직접 써 주세요. 그 글이 데이터셋에 들어갑니다.
4. 답변 칸이 비어 있으면 답변을 새로 써 주세요. 지시문이 말이 안 되면 **버림**을 누릅니다.

*Does the output follow the instruction, is it true, does it read naturally? Rate it. Where you give 3 or less,
write a better output if you can: it goes into the dataset. Where the output is empty, write one.
Discard what makes no sense.*
{SCALE}""",
    "preference": f"""## 답변 비교 · Compare answers to one prompt

1. 질문을 읽고 **모든 답변**을 끝까지 읽습니다. 순서에는 뜻이 없습니다.
2. 답변마다 점수를 매깁니다. 더 나은 답변에 **더 높은 점수**를 주세요. 정말 같을 때만 같은 점수를 줍니다.
3. 길다고 좋은 답변이 아닙니다. 사실, 지시 이행, 자연스러움을 봅니다.

*Read every answer to the end; their order means nothing. Give the better answer the higher rating, and the same
rating only where they truly are as good. Longer is not better.*
{SCALE}""",
    "dialogue": f"""## 대화 검증 · Validate a conversation

1. 대화를 처음부터 끝까지 읽습니다. `user`는 묻는 사람, `assistant`는 인물을 맡은 모델입니다.
2. 답변이 **사실인지, 앞말과 이어지는지, 말투가 한결같은지, 같은 말을 되풀이하지 않는지** 봅니다.
3. 대화 전체에 점수를 하나 매깁니다. 마지막 답변을 고칠 수 있다면 고쳐 써 주세요.

*Are the answers true, do they follow from what was said, is the speech level steady, do they repeat themselves?
One rating for the whole conversation. Rewrite the last answer if you can better it.*
{SCALE}""",
}


def settings_for(client: rg.Argilla, task: Task, *, texts: int, dimensions: int | None, overlap: int) -> rg.Settings:
    """The Argilla settings of a task.

    Args:
        texts: preference: the most completions that a row has.
        dimensions: length of the vectors; None where rows have none.
        overlap: submitted answers that complete a record.
    """
    import argilla as rg

    # Argilla's classes fall back to a process-wide default client, which may be another server.
    fields: list[Any]
    questions: list[Any]
    if task == "dialogue":
        fields = [rg.ChatField(name="messages", title="대화 · Conversation", use_markdown=False, _client=client)]
        questions = [
            _rating(client, "rating", "이 대화는 얼마나 좋은가요? · How good is this conversation?"),
            _text(client, "correction", "더 나은 마지막 답변 · A better last answer"),
        ]
    elif task == "preference":
        fields = [rg.TextField(name="instruction", title="질문 · Prompt", client=client)]
        questions = []
        for n in range(1, texts + 1):
            title = f"답변 {n} · Answer {n}"
            fields.append(rg.TextField(name=f"completion_{n}", title=title, required=n <= 2, client=client))
            # Argilla asks every question of every record, of those with fewer answers too.
            where = "" if n <= 2 else " (답변이 있을 때만 · if there is one)"
            title = f"답변 {n}의 점수 · Rating of answer {n}{where}"
            questions.append(_rating(client, f"rating_{n}", title, required=n <= 2))
        questions.append(_text(client, "reason", "그렇게 고른 까닭 · Why"))
    else:
        fields = [
            rg.TextField(name="instruction", title="지시문 · Instruction", client=client),
            rg.TextField(name="output", title="답변 · Output", required=False, client=client),
        ]
        questions = [
            _rating(client, "rating", "이 답변은 얼마나 좋은가요? · How good is this output?"),
            _text(client, "correction", "더 나은 답변 · A better output"),
        ]
    vectors = [rg.VectorField(name=VECTOR, dimensions=dimensions, title="뜻 · Meaning", _client=client)]
    return rg.Settings(
        fields=fields,
        questions=questions,
        guidelines=GUIDELINES[task],
        metadata=_metadata(client, task),
        vectors=vectors if dimensions else [],
        distribution=rg.TaskDistribution(min_submitted=overlap),
    )


def _rating(client: rg.Argilla, name: str, title: str, *, required: bool = True) -> rg.RatingQuestion:
    import argilla as rg

    return rg.RatingQuestion(name=name, values=RATINGS, title=title, required=required, client=client)


def _text(client: rg.Argilla, name: str, title: str) -> rg.TextQuestion:
    import argilla as rg

    return rg.TextQuestion(name=name, title=title, required=False, client=client)


def _metadata(client: rg.Argilla, task: Task) -> list[Any]:
    import argilla as rg

    def terms(name: str, title: str, *, shown: bool = True) -> rg.TermsMetadataProperty:
        return rg.TermsMetadataProperty(name=name, title=title, visible_for_annotators=shown, client=client)

    def hidden_float(name: str, title: str) -> rg.FloatMetadataProperty:
        return rg.FloatMetadataProperty(name=name, title=title, visible_for_annotators=False, client=client)

    properties: list[Any] = [
        terms("cluster", "주제 · Cluster"),
        terms("language", "언어 · Language"),
        terms("source", "출처 · Source"),
        # Who wrote a text, and what a judge gave it, would sway a labeler who can filter by it.
        terms("model", "모델 · Model", shown=False),
        hidden_float("judge_rating", "모델 점수 · Judge rating"),
        rg.IntegerMetadataProperty(name="length", title="길이 · Length (characters)", client=client),
        rg.FloatMetadataProperty(name="perplexity", title="혼란도 · Perplexity", client=client),
    ]
    if task == "dialogue":
        properties += [
            terms("persona", "인물 · Persona"),
            rg.IntegerMetadataProperty(name="turns", title="주고받은 횟수 · Turns", client=client),
            terms("speech_level", "말투 · Speech level"),
            *(hidden_float(name, f"{korean} · {english}") for name, (english, korean) in FIGURES.items()),
        ]
    return properties


def record_of(row: Mapping[str, Any], question_ids: Mapping[str, str]) -> dict[str, Any]:
    """A row as an item of Argilla's bulk endpoint (`PUT /api/v1/datasets/{id}/records/bulk`).

    Args:
        row: a row with the columns of `GENERATED`, `JUDGED` and `MAPPED`.
        question_ids: Argilla's ids of the questions, by name.
    """
    item: dict[str, Any] = {
        "external_id": row["id"],
        "fields": fields_of(row),
        "metadata": _metadata_of(row),
        "suggestions": [
            {"question_id": question_ids[name], **suggestion} for name, suggestion in suggestions_of(row).items()
        ],
    }
    if row.get("vector") is not None:
        item["vectors"] = {VECTOR: [float(value) for value in row["vector"]]}
    return item


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a row by the names of the Argilla fields that show them."""
    if row["task"] == "dialogue":
        return {"messages": [{"role": m["role"], "content": m["content"]} for m in row["messages"]]}
    if row["task"] == "preference":
        completions = {f"completion_{n}": text for n, text in enumerate(row["completions"], 1)}
        return {"instruction": row["instruction"], **completions}
    return {"instruction": row["instruction"], "output": row["output"] or ""}


def texts_in(task: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `fields_of`: the texts that a record's fields show, by the names of `records.seen_texts`."""
    if task == "dialogue":
        return {"messages": [{"role": m["role"], "content": m["content"]} for m in fields["messages"]]}
    instruction = fields["instruction"]
    if task == "preference":
        names = sorted((name for name in fields if name.startswith("completion_")), key=lambda n: int(n.split("_")[1]))
        completions = [fields[name] for name in names if fields[name] is not None]
        return {"instruction": instruction, "completions": completions}
    return {"instruction": instruction, "output": fields.get("output") or ""}


def rating_questions(task: str, texts: int) -> list[str]:
    """The names of the rating questions of a task, in the order of the judged texts."""
    return [f"rating_{n}" for n in range(1, texts + 1)] if task == "preference" else ["rating"]


def suggestions_of(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The judges' ratings as suggestions: nearest whole rating, confidence as score, judges as agent."""
    names = rating_questions(row["task"], len(judged_texts(row)))
    ratings = row.get("ratings") or [None] * len(names)
    confidences = row.get("confidence") or [None] * len(names)
    return {
        name: {
            # Half goes up: round() would send 2.5 to 2 and 3.5 to 4.
            "value": min(5, max(1, math.floor(rating + 0.5))),
            "score": None if confidence is None else round(float(confidence), 4),
            "agent": agent_name(row.get("judge") or "judge"),
            "type": "model",
        }
        for name, rating, confidence in zip(names, ratings, confidences, strict=True)
        if rating is not None
    }


def agent_name(name: str) -> str:
    """A name that Argilla takes for an agent: letters, digits and - _ : . / with spaces, at most 200 characters."""
    name = re.sub(r"[^a-zA-Z0-9\-_:./ ]+", "-", name)[:200].strip(" -")
    return name if re.search("[a-zA-Z0-9]", name) else "judge"


def _metadata_of(row: Mapping[str, Any]) -> dict[str, Any]:
    ratings = [rating for rating in row.get("ratings") or [] if rating is not None]
    perplexity = row.get("perplexity")
    values = {
        "cluster": row.get("cluster"),
        "language": row["language"],
        "source": row["source"],
        "model": sorted(set(row["models"] or [])),
        "judge_rating": round(sum(ratings) / len(ratings), 3) if ratings else None,
        "length": sum(len(text) for text in judged_texts(row)) or len(main_text(row)),
        "perplexity": round(perplexity, 3) if perplexity is not None and math.isfinite(perplexity) else None,
    }
    if row["task"] == "dialogue":
        values |= {"persona": row["persona"], "turns": sum(m["role"] == "user" for m in row["messages"])}
        values |= {"speech_level": row.get("speech_level")}
        values |= {name: round(figure, 3) for name in FIGURES if (figure := row.get(name)) is not None}
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def unfit(row: Mapping[str, Any]) -> str | None:
    """Why Argilla cannot hold a row, or None."""
    if row["task"] == "dialogue":
        if len(row["messages"]) > CHAT_MESSAGES_MAX:
            return f"more than {CHAT_MESSAGES_MAX} messages, Argilla's limit for a chat"
        if any(not m["content"] or len(m["content"]) > CHAT_CHARACTERS_MAX for m in row["messages"]):
            return f"a message is empty or longer than {CHAT_CHARACTERS_MAX} characters, Argilla's limit for a chat"
    return None


def most_texts(rows: Sequence[Mapping[str, Any]]) -> int:
    """The most texts that any of `rows` asks a rating for."""
    return max((len(judged_texts(row)) for row in rows), default=1)
