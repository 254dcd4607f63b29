"""`README.md` of a release: metadata that the Hugging Face hub and `datasets` read, and a text that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from lingo_hitl.config import Corpus, ReleaseConfig
from lingo_hitl.corpus.seeds import source_name
from lingo_hitl.records import Row
from lingo_hitl.release.people import People
from lingo_hitl.release.trainers import CHOSEN_MIN_RATING, MIN_RATING

TEMPLATE = "card_template.md"

Sets = Mapping[str, Mapping[str, Sequence[Row]]]
"""The released rows: set ("preference", "sft") -> split ("train", "test") -> rows; empty ones left out."""

SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]

_OTHER_REJECTED = {  # Korean and English; a card's own words already say which one is the worst
    "worst": ("", ""),
    "second": (" 못한 쪽은 둘째로 좋은 답변입니다.", " Rejected is the second best."),
    "random": (" 못한 쪽은 더 낮은 답변 가운데 무작위로 골랐습니다.", " Rejected is drawn from all lower ones."),
}
_MESSAGES = {"list": [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]}
FEATURES: dict[str, dict[str, Any]] = {
    "preference": {
        **dict.fromkeys(("id", "language", "source", "source_id"), "string"),
        **dict.fromkeys(("prompt", "chosen", "rejected"), _MESSAGES),
        **dict.fromkeys(("chosen_rating", "rejected_rating"), "float64"),
        **dict.fromkeys(("chosen_model", "rejected_model"), "string"),
    },
    "sft": {
        **dict.fromkeys(("id", "language", "source", "source_id", "task"), "string"),
        "messages": _MESSAGES,
        "rating": "float64",
        "model": "string",
        "corrected": "bool",
    },
}
"""The columns of each set. Stated on the card, so that a column of nulls in one split loads as what it is."""


@dataclass(frozen=True)
class Card:
    """All that a card tells.

    Attributes:
        drops: reason -> rows.
        judges: names of the models that rated texts before people did.
    """

    name: str
    config: ReleaseConfig
    sets: Sets
    corpora: Sequence[Corpus]
    people: People
    drops: Mapping[str, int]
    judges: Sequence[str]


def render(card: Card) -> str:
    """The card as Markdown with YAML front matter. The same facts give the same text: there are no dates in it."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    environment.filters["percent"] = "{:.0%}".format
    template = files("lingo_hitl.release").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(template).render(
        card=card,
        people=card.people,
        metadata=yaml.safe_dump(_metadata(card), allow_unicode=True, sort_keys=False, width=1000).strip(),
        counts={name: {split: len(rows) for split, rows in splits.items()} for name, splits in card.sets.items()},
        models=_models(card.sets),
        corpora=_corpora(card),
        sft_rating=MIN_RATING,
        chosen_rating=CHOSEN_MIN_RATING,
        other_rejected=_OTHER_REJECTED[card.config.rejected],
    )


def _metadata(card: Card) -> dict[str, Any]:
    rows = [row for splits in card.sets.values() for part in splits.values() for row in part]
    tags = ["lingo-hitl", "human-feedback", "argilla", *({"preference": "dpo"}.get(name, name) for name in card.sets)]
    return {
        "pretty_name": f"{card.name} {card.config.version}",
        "language": sorted({row["language"] for row in rows if row["language"]}),
        "license": card.config.licence,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in SIZES if len(rows) < limit), "1M<n<10M")],
        "tags": tags + (["simulated-annotations"] if card.people.simulated else []),
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": split, "path": f"{name}/{split}.jsonl"} for split in splits],
            }
            for name, splits in card.sets.items()
        ],
        "dataset_info": [{"config_name": name, "features": _features(name)} for name in card.sets],
    }


def _features(name: str) -> list[dict[str, Any]]:
    return [
        # A copy each: YAML would write a shared one as an alias, which `datasets` cannot take apart.
        {"name": column, **({"dtype": kind} if isinstance(kind, str) else deepcopy(kind))}
        for column, kind in FEATURES[name].items()
    ]


def _models(sets: Sets) -> list[dict[str, Any]]:
    """How often each author's texts were chosen, rejected and taken as examples."""
    counts: dict[str, Counter[str]] = {"chosen": Counter(), "rejected": Counter(), "sft": Counter()}
    for rows in sets.get("preference", {}).values():
        counts["chosen"].update(row["chosen_model"] or "" for row in rows)
        counts["rejected"].update(row["rejected_model"] or "" for row in rows)
    for rows in sets.get("sft", {}).values():
        counts["sft"].update(row["model"] or "" for row in rows)
    names = sorted({name for count in counts.values() for name in count if name})
    return [{"name": name, **{what: count[name] for what, count in counts.items()}} for name in names]


def _corpora(card: Card) -> list[dict[str, Any]]:
    """Each corpus by the name that its rows carry, with its licence and how many released rows came from it."""
    sources = {(row["id"], row["source"]) for splits in card.sets.values() for rows in splits.values() for row in rows}
    count = Counter(source for _, source in sources)
    licences: dict[str, str | None] = {source_name(corpus): corpus.licence for corpus in card.corpora}
    for source in sorted(str(source) for source in count if source):
        licences.setdefault(source, None)
    return [{"name": name, "licence": licence, "rows": count[name]} for name, licence in licences.items()]


def _cell(value: Any) -> str:
    """A value as one cell of a Markdown table."""
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
