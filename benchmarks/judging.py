"""Judges' replies with what models do to a form, read by our parser and by distilabel's: is any rating on another text?

Ratings from 1 to 5 are drawn for two to four texts and written in the form that distilabel's UltraFeedback asks
for; each line of the table spoils that in one way. Counted are ratings: right, none, or wrong, which is another
text's, or one that the judge never gave.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random

from lingo_hitl.judging.parse import parse_ratings

Ratings = list[int | None]
"""What the judge means; None where it gives no rating."""
Spoil = Callable[[Ratings, Random], tuple[str, Ratings]]
"""From ratings to a reply, and to what it says in the end."""

ENGLISH = "#### Output for Text {}\nRating: {}\nRationale: {}"
KOREAN = "#### 글 {}의 평가\n평점: {}\n근거: {}"
WHY = ("It follows the instruction.", "Mostly right, one error.", "정확하고 간결합니다.", "Too short to help.")


def main(options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks judging", description=__doc__)
    parser.add_argument("--replies", type=int, default=1_000, help="for each line of the table")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(options)
    count = 100 if given.quick else given.replies
    theirs = _distilabel()
    kinds = ("right", "none", "wrong")
    print(" " * 34, "{:>21} {:>21}".format("ours", "distilabel"))
    print("{:34} {:>7} {:>6} {:>6} {:>7} {:>6} {:>6}".format("ratings, in %", *kinds, *kinds))
    totals: Counter[str] = Counter()
    for name, spoil in SPOILS.items():
        chance = Random(name)
        replies = [spoil([chance.randint(1, 5) for _ in range(chance.randint(2, 4))], chance) for _ in range(count)]
        shares = []
        for reader, read in (("ours", _ours), ("distilabel", theirs)):
            begun = time.process_time()
            found = [read(reply, len(meant)) for reply, meant in replies]
            totals[reader] += round((time.process_time() - begun) * 1e9)
            counts = Counter(
                _kind(got, want)
                for (_, meant), all_ in zip(replies, found, strict=True)
                for got, want in zip(all_, meant, strict=True)
            )
            shares += [100 * counts[kind] / counts.total() for kind in kinds]
        print("{:34} {:7.1f} {:6.1f} {:6.1f} {:7.1f} {:6.1f} {:6.1f}".format(name, *shares))
    each = count * len(SPOILS) * 1e6
    print(f"CPU milliseconds a reply: {totals['ours'] / each:.3f}, distilabel {totals['distilabel'] / each:.3f}")


def _kind(got: float | None, want: int | None) -> str:
    if got is None:
        return "right" if want is None else "none"
    return "right" if got == want else "wrong"


def _ours(reply: str, count: int) -> list[float | None]:
    return [verdict.rating for verdict in parse_ratings(reply, count)]


def _distilabel() -> Callable[[str, int], list[float | None]]:
    warnings.simplefilter("ignore")
    logging.getLogger("distilabel").setLevel(logging.ERROR)
    from distilabel.models import TransformersLLM
    from distilabel.steps.tasks import UltraFeedback

    task = UltraFeedback(llm=TransformersLLM(model="none"), aspect="overall-rating")

    def read(reply: str, count: int) -> list[float | None]:
        try:
            ratings = task.format_output(reply, {"generations": [""] * count, "instruction": ""})["ratings"]
        except Exception:  # distilabel's Task gives None for all then
            ratings = []
        return (list(ratings) + [None] * count)[:count]

    return read


def _parts(ratings: Ratings, chance: Random, form: str = ENGLISH, value: str = "{}") -> list[str]:
    return [
        form.format(n, "N/A" if r is None else value.format(r), chance.choice(WHY)) for n, r in enumerate(ratings, 1)
    ]


def _plain(form: str, value: str = "{}") -> Spoil:
    return lambda ratings, chance: ("\n\n".join(_parts(ratings, chance, form, value)), ratings)


def _preamble(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    return "\n\n".join(["Here is my assessment of the texts.", *_parts(ratings, chance)]), ratings


def _paragraphs(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    parts = [
        part + "\n\nIt could say more about the reasons." * (chance.random() < 0.5) for part in _parts(ratings, chance)
    ]
    return "\n\n".join(parts), ratings


def _shuffled(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    parts = _parts(ratings, chance)
    chance.shuffle(parts)
    return "\n\n".join(parts), ratings


def _left_out(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    gone = chance.randrange(len(ratings))
    left: Ratings = [None if n == gone else rating for n, rating in enumerate(ratings)]
    return "\n\n".join(part for n, part in enumerate(_parts(ratings, chance)) if n != gone), left


def _out_of_range(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    tenfold: Ratings = [2 * (rating or 0) for rating in ratings]
    return "\n\n".join(_parts(tenfold, chance)), [None] * len(ratings) if max(map(_number, tenfold)) > 5 else tenfold


def _json(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    said = {"ratings": [{"text": n, "rating": r, "rationale": chance.choice(WHY)} for n, r in enumerate(ratings, 1)]}
    return f"```json\n{json.dumps(said, ensure_ascii=False, indent=2)}\n```", ratings


def _thought(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    first = "\n\n".join(_parts([chance.randint(1, 5) for _ in ratings], chance))
    return f"<think>\n{first}\n</think>\n\n" + "\n\n".join(_parts(ratings, chance)), ratings


def _quoted(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    """Each rationale quotes JSON that names the next text."""
    count = len(ratings)
    parts = [
        f"{part} It prints {json.dumps({'id': n % count + 1, 'score': chance.randint(1, 5)})}."
        for n, part in enumerate(_parts(ratings, chance), 1)
    ]
    return "\n\n".join(parts), ratings


def _cut_json(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    """Objects under their texts' names, in any order, without the last brace: nothing in it can be believed."""
    said = [(f"text_{n}", {"rating": r}) for n, r in enumerate(ratings, 1)]
    chance.shuffle(said)
    return json.dumps(dict(said))[:-1], [None] * len(ratings)


def _key_twice(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    """The first text's name stands at another rating as well."""
    entries = [f'"text_{n}": {{"rating": {r}}}' for n, r in enumerate(ratings, 1)]
    entries.append(f'"text_1": {{"rating": {_number(ratings[0]) % 5 + 1}}}')
    return f"{{{', '.join(entries)}}}", [None] * len(ratings)


def _parts_of_one(ratings: Ratings, chance: Random) -> tuple[str, Ratings]:
    """One dialogue is to be rated; the judge rates its answers instead, and nothing as a whole."""
    return "\n\n".join(_parts(ratings, chance, KOREAN.replace("글", "답변"))), [None]


def _number(rating: int | None) -> int:
    return rating or 0


SPOILS: dict[str, Spoil] = {
    "the form that was asked for": _plain(ENGLISH),
    "a sentence before it": _preamble,
    "rationales of two paragraphs": _paragraphs,
    "texts in another order": _shuffled,
    "a text left out": _left_out,
    "a scale of ten": _out_of_range,
    "4/5": _plain(ENGLISH, "{}/5"),
    "4 in bold": _plain(ENGLISH.replace("Rating:", "**Rating:**")),
    "JSON in a fence": _json,
    "thoughts before the answer": _thought,
    "JSON quoted in rationales": _quoted,
    "JSON without its last brace": _cut_json,
    "JSON with a key twice": _key_twice,
    "only the answers of one dialogue": _parts_of_one,
    "4점 이상": lambda ratings, chance: (_plain(KOREAN, "{}점 이상")(ratings, chance)[0], [None] * len(ratings)),
    "Korean": _plain(KOREAN),
    "Korean, 4점": _plain(KOREAN, "{}점"),
}
