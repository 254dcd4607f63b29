"""What a run of stage `judge` found and what it cost, for its manifest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lingo_hitl.records import Row


@dataclass
class Told:
    """Figures of a run, counted while it goes. Costs are in the currency of the price table, None without a price."""

    rated: int = 0
    unrated: int = 0
    total: float = 0.0
    judges: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        if row["excess"]:
            return
        for rating in row["ratings"]:
            self.rated += rating is not None
            self.unrated += rating is None
            self.total += rating or 0.0
        for one in row["judgements"]:
            apart = [difference for difference in one["disagreements"] if difference is not None]
            given = sum(rating is not None for rating in one["ratings"])
            self.judges.setdefault(one["judge"], Counter()).update(
                {
                    "ratings": given,
                    "without a rating": len(one["ratings"]) - given,
                    "asked again": max(0, one["calls"] - max(1, len(one["orders"]))),
                    "input tokens": one["input_tokens"],
                    "output tokens": one["output_tokens"],
                    "cost": one["cost"] or 0.0,
                    "priced": one["cost"] is not None,
                    "compared": len(apart),
                    "apart": sum(apart),
                }
            )

    def report(self) -> Row:
        return {
            "texts rated": self.rated,
            "texts without a rating": self.unrated,
            "mean rating": round(self.total / self.rated, 3) if self.rated else None,
            "asked again": sum(counts["asked again"] for counts in self.judges.values()),
            "judges": {name: _shown(counts) for name, counts in self.judges.items()},
        }


def _shown(counts: Counter[str]) -> Row:
    compared, apart = counts["compared"], counts["apart"]
    shown: Row = {name: count for name, count in counts.items() if name not in ("compared", "apart", "cost", "priced")}
    shown["cost"] = round(counts["cost"], 6) if counts["priced"] else None
    return {**shown, "mean disagreement": round(apart / compared, 3)} if compared else shown
