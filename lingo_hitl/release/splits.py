"""Train or test: rows that could give each other away are always on the same side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lingo_hitl.judging.pairs import plain

Group = str


def groups_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Group]:
    """The group of each row by its id: rows that share a seed, or a prompt, directly or through others.

    A group is named after the first of its seeds, so that further rows of the same seeds leave its name,
    and with it its side, as it is. Prompts are compared in NFC and with white space collapsed.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def origin(row: Mapping[str, Any]) -> str:
        return f"origin {row['seed']}" if row["seed"] else f"prompt {_prompt(row)}"

    for row in rows:
        one, other = sorted((root(origin(row)), root(f"prompt {_prompt(row)}")))
        parent[other] = one
    names: dict[str, Group] = {}
    for row in rows:
        place = root(origin(row))
        names[place] = min(names.get(place, origin(row)), origin(row))
    return {row["id"]: names[root(origin(row))] for row in rows}


def held_out(sets: Sequence[Iterable[Group]], *, fraction: float, seed: int) -> set[Group]:
    """The groups that go to the test split: those whose hash falls below `fraction`.

    Where chance would leave a set without a row to train on, its groups of the highest hash stay in
    training; where it would leave one of two or more groups without a test row, that of the lowest goes
    to test. Apart from such small sets, a group's side depends on its name and `seed` alone, so a later
    version with more rows keeps it.

    Args:
        sets: the groups of each set that is released, such as of the pairs and of the SFT rows.
    """
    parts = [sorted(set(part), key=lambda group: share(group, seed)) for part in sets]
    chosen = {group for part in parts for group in part if share(group, seed) < fraction}
    for part in parts:
        if part and chosen.issuperset(part):
            chosen.discard(part[-1])
    if fraction > 0:
        for part in parts:
            if len(part) > 1 and chosen.isdisjoint(part):
                spare = next((g for g in part if all(set(other) - chosen != {g} for other in parts)), None)
                chosen |= {spare} if spare else set()
    return chosen


def share(group: Group, seed: int) -> float:
    """A number in [0, 1) that depends on the group and the seed alone."""
    digest = hashlib.blake2b(f"{seed} {group}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _prompt(row: Mapping[str, Any]) -> str:
    return " ".join(plain(row["instruction"] or "").split())
