"""`judge` and `binarise` as a user runs them."""

import json

import pytest

from lingo_hitl import cli
from lingo_hitl.errors import UserError
from lingo_hitl.stages import read_dropped, read_manifest, read_rows
from tests.judging.rows import by_label, shown
from tests.providers import serving

PROJECT = """
project: p
workdir: work
corpus: [{path: rows.jsonl}]
generate:
  preference: {pool: [WRITER], include_reference: true}
judge: {judges: [JUDGE], aspects: [depth, honesty], OPTION}
binarise: {by: depth, rejected: second}
"""


@pytest.fixture
def project(tmp_path):
    def project(server, judge, option=""):
        spec = {name: json.dumps(server.spec(name)) for name in ("writer-2b", judge)}
        text = PROJECT.replace("WRITER", spec["writer-2b"]).replace("JUDGE", spec[judge]).replace("OPTION", option)
        (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
        rows = [{"instruction": f"{n}번째 물음", "output": f"정답 {n}"} for n in range(4)]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return str(tmp_path / "p.yaml"), tmp_path / "work"

    return project


def script(model, messages):
    """A writer, and a judge that finds the reference deeper, but once no better."""
    if model == "writer-2b":
        return f"{messages[-1]['content']}: 글쎄요"
    texts = shown(messages)
    deep = "깊이 평가" in messages[1]["content"]
    return by_label([5 if deep and "정답" in text and "0" not in text else 3 for text in texts])


def lingo(*arguments):
    cli.app(list(arguments), standalone_mode=False)


def test_pairs_by_the_judge_alone(project, capsys):
    with serving(script) as server:
        config, workdir = project(server, "grader")
        for command in ("generate", "judge", "binarise", "binarise"):
            lingo(command, config)
    pairs = [json.loads(line) for line in (workdir / "binarise" / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert sorted(pair["chosen"][0]["content"] for pair in pairs) == ["정답 1", "정답 2", "정답 3"]
    assert {(pair["chosen_rating"], pair["rejected_rating"]) for pair in pairs} == {(5.0, 3.0)}
    assert len(pairs) == read_rows(workdir, "binarise").num_rows
    (tie,) = read_dropped(workdir, "binarise")
    assert tie["reason"] == "a tie: chosen and rejected were found equally good"
    said = capsys.readouterr().out
    assert "grader: ratings 16\n" in said
    assert "dropped 1: a tie" in said and str(workdir / "binarise" / "pairs.jsonl") in said and "done before" in said


def test_prompts_of_one_s_own_go_before_the_shipped_ones(project, tmp_path):
    own = tmp_path / "mine" / "ko" / "aspects"
    own.mkdir(parents=True)
    (own / "depth.md").write_text("얼마나 깊이 파고들었는지 깊이 평가하세요.", encoding="utf-8")
    with serving(script) as server:
        config, _ = project(server, "grader", "prompts: mine")
        lingo("generate", config)
        lingo("judge", config)
        asked = ["\n".join(m["content"] for m in messages) for messages in server.asked_of("grader")]
        assert sum("얼마나 깊이 파고들었는지" in question for question in asked) == len(asked) / 2
        (own.parent / "again.md").write_text("다시 쓰세요.", encoding="utf-8")
        with pytest.raises(UserError, match=r"again.md: placeholder .*fault.* is missing"):
            lingo("judge", config)


def test_a_judge_of_the_writer_s_family_is_refused_before_anybody_is_asked_and_warned_of_where_it_is_allowed(
    project, capsys
):
    with serving(script) as server:
        config, workdir = project(server, "writer-7b")
        with pytest.raises(UserError, match=r"same family as openai/writer-2b.*same_family: allowed"):
            lingo("generate", config)
        assert not server.asked, "nothing is paid for that would be refused later"
        allowed, _ = project(server, "writer-7b", "same_family: allowed")
        lingo("generate", allowed)
        with pytest.raises(UserError, match=r"same family as openai/writer-2b.*same_family: allowed"):
            lingo("judge", project(server, "writer-7b")[0])
        assert not (workdir / "judge").exists()
        lingo("judge", project(server, "writer-7b", "same_family: allowed")[0])
    warning = "judge openai/writer-7b is of the same family as openai/writer-2b"
    assert f"warning: {warning}" in capsys.readouterr().out
    assert read_manifest(workdir, "judge").report["warnings"][0].startswith(warning)
