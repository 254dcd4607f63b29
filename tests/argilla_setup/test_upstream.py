"""Argilla's own tests of its search engine, run against ours, where `make engine-conformance` has downloaded them."""

from __future__ import annotations

import pytest

from argilla_setup import environment
from tests.argilla_setup.upstream import conformance


def test_each_difference_has_one_reason():
    lines = (conformance.HERE / "differences.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert len(conformance.differences()) == len(named)
    assert all(conformance.differences().values())


def test_what_the_list_does_not_say_is_told():
    known = dict.fromkeys(conformance.differences(), "reads Elasticsearch")
    assert conformance.surprises(known) == []
    assert conformance.surprises(known | {"test_search[a]": "wrong"}) == ["test_search[a]: wrong"]
    (told,) = conformance.surprises(known | {"test_delete_records": ""})
    assert told.startswith("test_delete_records is listed")


@pytest.mark.server
def test_our_engine_passes_argillas_own_tests(tmp_path):
    # CI never downloads them: a package index that does not answer is no fault of ours.
    if not conformance.is_there():
        pytest.skip("`make engine-conformance` downloads Argilla's own tests")
    environment.ensure(log=tmp_path / "environment.log", say=lambda line: None)
    assert conformance.surprises(conformance.outcomes()) == []
