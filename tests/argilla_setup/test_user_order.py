"""The order in which annotators meet the records: as good as drawn by lot, for every one of them."""

from __future__ import annotations

import random
import sqlite3
import uuid

import numpy as np

from argilla_setup.search.user_order import PRIME, number_of, number_sql, shuffled

RECORDS = 100
USERS = 20_000


def ids(count, seed):
    chance = random.Random(seed)
    return [uuid.UUID(int=chance.getrandbits(128), version=4) for _ in range(count)]


def test_sqlite_reads_the_same_number_from_an_id():
    database = sqlite3.connect(":memory:")
    for record_id in ids(200, seed=1):
        (number,) = database.execute(f"SELECT {number_sql('id')} FROM (SELECT ? AS id)", (record_id.hex,)).fetchone()
        assert number == number_of(record_id.hex)


def test_sqlite_computes_the_same_place():
    # The product of a number and a factor, and the square, stay below 2**63 for every number and user.
    assert (16**7 - 1) * (PRIME - 1) + PRIME < 2**63
    assert (PRIME - 1) ** 2 < 2**63


def test_no_annotator_in_twenty_thousand_meets_the_records_at_regular_strides():
    numbers = np.array([number_of(record_id.hex) for record_id in ids(RECORDS, seed=2)])
    first = np.zeros(RECORDS)
    fewest = RECORDS
    for user in ids(USERS, seed=3):
        order = np.argsort(shuffled(numbers, user), kind="stable")
        fewest = min(fewest, len(np.unique(np.diff(order))))
        first[order[0]] += 1
    assert fewest > 50, "of the 197 distances that two neighbours can have; orders drawn by lot have 60 and more"
    expected = USERS / RECORDS
    assert ((first - expected) ** 2 / expected).sum() < 150, (
        "each record comes first as often (chi squared, 99 degrees)"
    )
