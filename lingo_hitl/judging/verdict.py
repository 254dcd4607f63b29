"""What a judge says about one text."""

from __future__ import annotations

from dataclasses import dataclass

LOWEST, HIGHEST = 1.0, 5.0


@dataclass(frozen=True)
class Verdict:
    """A rating from 1 to 5, or the reason for which there is none."""

    rating: float | None = None
    spread: float | None = None  # standard deviation of the rating, 0 to 2; None where the judge gives none
    rationale: str | None = None
    fault: str | None = None

    @classmethod
    def of(cls, value: float, rationale: str | None = None) -> Verdict:
        """The verdict for a value that was read, which may lie outside the scale."""
        if not LOWEST <= value <= HIGHEST:
            return cls(rationale=rationale, fault="its rating is outside 1 to 5")
        return cls(float(value), rationale=rationale)
