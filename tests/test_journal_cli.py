"""`lingo-hitl journal` and what a run tells of its models, as a user sees them."""

import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from lingo_hitl.errors import UserError
from lingo_hitl.journal_cli import app
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Entry, Journal
from lingo_hitl.stages import Outcome, run_stage
from lingo_hitl.summary import tell
from lingo_hitl.usage_table import print_usage

PROJECT = "project: p\nworkdir: work\ncorpus: [{path: sample:ko}]\n"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(PROJECT)
    with Journal(tmp_path / "work" / "journal.sqlite") as journal:
        journal.put([Entry(b"a", "gemini/x", Completion("별", input_tokens=3, output_tokens=4, cost=0.5), "USD")])
        journal.put([Entry(b"b", "gemini/x", Completion(None, "prompt blocked: SAFETY"), "USD")])
    return path


def said(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_journal_is_looked_at_shared_and_pruned(config, tmp_path):
    assert "gemini/x: 1 without a text: prompt blocked: SAFETY" in said("stats", config)
    found = json.loads(said("stats", config.parent / "work" / "journal.sqlite", "--json"))
    assert found["models"][0]["completions"] == 2 and found["spent"] == {"USD": 0.5}
    said("export", config, tmp_path / "shared.sqlite")
    theirs = tmp_path / "theirs" / "p.yaml"
    theirs.parent.mkdir()
    theirs.write_text(PROJECT)
    assert said("merge", theirs, tmp_path / "shared.sqlite").startswith("2 of 2 completions are new")
    assert said("prune", theirs, "--failures", "--model", "gemini/*").startswith("1 completions are gone, 1 stay")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stats", "other.sqlite"], "other.sqlite is not there"),
        (["prune", "CONFIG", "--older-than", "soon"], "Expected a number and h, d or w"),
        (["prune", "CONFIG"], "nothing says which"),
        (["merge", "CONFIG", "other.sqlite"], "other.sqlite is not there"),
        (["export", "CONFIG", "CONFIG"], "is there already"),
    ],
)
def test_what_cannot_be_done_is_one_line(config, arguments, says):
    with pytest.raises(UserError, match=says):
        said(*(config if argument == "CONFIG" else argument for argument in arguments))


def test_a_run_tells_what_it_asked_by_model_and_key_and_leaves_out_what_did_not_happen(capsys):
    counts = {"calls": 12, "replayed": 3, "input_tokens": 4567, "output_tokens": 890, "cost": 0.0123, "limited": 1}
    print_usage({"models": {"gemini/x": counts}, "keys": {"MY_KEY": {"calls": 12}}, "currency": "USD"})
    head, _, model, key = (line.split() for line in capsys.readouterr().out.strip("\n").splitlines())
    assert head == ["calls", "replayed", "input", "tokens", "output", "tokens", "USD", "cost", "limited"]
    assert model == ["gemini/x", "12", "3", "4,567", "890", "0.0123", "1"]
    assert key == ["key", "MY_KEY", "12"]
    print_usage({"models": {"packaged/smollm2-135m": counts}, "keys": {}})
    assert capsys.readouterr().out == ""


def test_a_key_that_was_refused_is_named_with_the_reason_and_has_no_empty_row(tmp_path, capsys):
    keys = {"DEAD": {"refused": "gemini/x: 403 not yours"}, "GOOD": {"calls": 12}}
    report = {"models": {"gemini/x": {"calls": 12}}, "keys": keys, "currency": "USD"}
    out = pa.table({"id": ["a"]})
    manifest = run_stage("generate", lambda: Outcome(out, [], report), workdir=tmp_path, config={}, inputs={})
    tell(manifest)
    said = capsys.readouterr().out
    assert "warning: key DEAD was refused and used no more (gemini/x: 403 not yours)" in said
    assert "key GOOD" in said and said.count("DEAD") == 1
