"""The order in which an annotator meets the records: random, another for each annotator, and always the same for one.

It follows from the record's id alone, so that neither a rebuilt index, nor VACUUM, nor a move to another machine
changes it. The number of a record is the first 28 bits of its id, which Argilla draws at random.
"""

from __future__ import annotations

import hashlib
from typing import Any

DIGITS = 7
PRIME = 2**31 - 1


def number_of(record_id: str) -> int:
    """The number of a record from its id in hex."""
    return int(record_id[:DIGITS], 16)


def number_sql(column: str) -> str:
    """The same in SQLite's language, which cannot read hex; an index holds the values, so a search computes none."""
    digits = [
        f"instr('123456789abcdef', substr({column}, {position}, 1)) * {16 ** (DIGITS - position)}"
        for position in range(1, DIGITS + 1)
    ]
    return "(" + " + ".join(digits) + ")"


def shuffled(number: Any, user_id: Any) -> Any:
    """A number from 0 to PRIME - 1 in place of a record's `number` (int, or an SQL expression), for one user.

    Squaring scatters neighbours; two numbers may become one, and then the record's id decides.
    """
    seed = hashlib.blake2b(str(user_id).encode(), digest_size=8).digest()
    factor = int.from_bytes(seed[:4], "big") % (PRIME - 1) + 1
    shift = int.from_bytes(seed[4:], "big") % PRIME
    scattered = (number * factor + shift) % PRIME
    return (scattered * scattered) % PRIME
