"""What a judge says about one text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LOWEST, HIGHEST = 1.0, 5.0


@dataclass(frozen=True)
class Verdict:
    """A rating from 1 to 5, or the reason for which there is none."""

    rating: float | None = None
    spread: float | None = None  # standard deviation of the rating, 0 to 2; None where the judge gives none
    rationale: str | None = None
    fault: str | None = None
    disagreement: float | None = None  # how far its ratings in two orders lie apart, 0 to 4; None where there is one
    other_scale: bool = False  # the judge seems to rate on a longer scale than 1 to 5

    @classmethod
    def of(cls, value: float, rationale: str | None = None) -> Verdict:
        """The verdict for a value that was read, which may lie outside the scale."""
        if not LOWEST <= value <= HIGHEST:
            return cls(rationale=rationale, fault="its rating is outside 1 to 5", other_scale=value > HIGHEST)
        return cls(float(value), rationale=rationale)


def strange(stray: Iterable[int], count: int) -> Verdict:
    """No rating, because of labels that none of `count` texts has."""
    strays = ", ".join(map(str, sorted(stray)))
    return Verdict(fault=f"it rates a text {strays}, but the texts are 1 to {count}")


def by_label(labelled: Sequence[tuple[int, Verdict]], count: int, *, seen: Sequence[int] = ()) -> list[Verdict]:
    """Verdicts put in the order of the texts by their labels, which begin at 1.

    Args:
        seen: every label in the reply, also those under which no rating stands.
    """
    labels = {n for n, _ in labelled}
    wanted = set(range(1, count + 1))
    stray = (labels | set(seen)) - wanted
    # Labels 0 and 1 for two texts, say: nobody can know which text is meant. A surplus one after all others can,
    # but for a single text: there the judge rated parts of it, such as the answers of a dialogue, and not the whole.
    if stray and (count == 1 or not wanted <= labels or min(stray) < 1):
        return [strange(stray, count)] * count
    verdicts = []
    for n in range(1, count + 1):
        mine = [verdict for label, verdict in labelled if label == n]
        if not mine:
            verdicts.append(Verdict(fault="no rating"))
        elif len({verdict.rating for verdict in mine}) > 1:
            other_scale = any(verdict.other_scale for verdict in mine)
            verdicts.append(Verdict(fault="two different ratings", other_scale=other_scale))
        else:
            verdicts.append(next((v for v in mine if v.rationale), mine[0]))
    return verdicts
