"""Files of dialogues divided by quality: what goes where, what is told of it, and the page about it."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.dialogue_failures import FAILURES
from lingo_hitl.config import QualityConfig
from lingo_hitl.curation.quality import DROPPED, KEPT, NO_DIALOGUE, sift
from lingo_hitl.curation.quality_report import write_quality_report
from lingo_hitl.errors import UserError
from lingo_hitl.generation.personas import load_personas
from lingo_hitl.quality_cli import quality
from lingo_hitl.records import GENERATED, to_table
from tests.command_line import lingo_here
from tests.judging.good_dialogues import ENGLISH, KOREAN

PERSONAS = load_personas("sample")
ATTACK = "<b>굵게</b></script><script>window.hacked=1</script>{{ 7*7 }}"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bare(row):
    return {"messages": row["messages"], "persona": row["persona"], "url": "u", "score": 4.5}


def spoilt(name, row):
    return bare(FAILURES[name](row, random.Random(2)))


def test_each_row_goes_on_as_it_was_or_is_dropped_with_its_reason(tmp_path):
    good = [bare(row) for row in (*KOREAN[:3], *ENGLISH[:2])]
    bad = [spoilt("copying", KOREAN[1]), spoilt("shrinking", KOREAN[2])]
    source = write(tmp_path / "day.jsonl", [*good, *bad, {"messages": "?"}, {"task": "instruction", "output": "-"}])
    sifted = sift(source, tmp_path / "out", QualityConfig(), personas=PERSONAS)
    kept, dropped = lines(tmp_path / "out" / KEPT), lines(tmp_path / "out" / DROPPED)
    assert [{k: v for k, v in row.items() if k != "quality"} for row in kept] == good
    assert [row["messages"] for row in dropped] == [*[row["messages"] for row in bad], "?"]
    reasons = [row["reason"] for row in dropped]
    assert reasons[0].startswith("copying above 0.5 (")
    assert reasons[1].startswith("shrinking above 0.8 (") and reasons[2] == NO_DIALOGUE
    assert kept[0]["quality"]["speech_level"] == "해요체" and kept[3]["quality"]["speech_level"] is None
    assert (len(sifted.kept), sifted.kept.sum(), sifted.unread) == (7, 5, 1)
    assert [sifted.beyond(name) for name in FAILURES] == [0, 1, 1, 0]
    assert not list((tmp_path / "out").glob("*.part"))


def test_without_limits_every_dialogue_is_kept(tmp_path):
    source = write(tmp_path / "day.jsonl", [bare(KOREAN[0]), spoilt("copying", KOREAN[1])])
    limits = QualityConfig(**dict.fromkeys(FAILURES))
    assert sift(source, tmp_path, limits, personas={}).kept.all()


def test_sharegpt_s_turns_are_read_and_a_persona_can_be_given(tmp_path):
    turns = [{"from": "human", "value": "별은?"}, {"from": "gpt", "value": "별은 멉니다. 빛이 옵니다."}]
    source = write(
        tmp_path / "sharegpt.jsonl", [{"conversations": turns}, {"conversations": turns, "persona": "historian"}]
    )
    sift(source, tmp_path, QualityConfig(), personas=PERSONAS, persona="orbit")
    (kept,), (dropped,) = lines(tmp_path / KEPT), lines(tmp_path / DROPPED)
    assert kept["persona"] == "historian" and dropped["reason"] == "speech level shift above 0.25 (0.50)"


def test_a_file_without_dialogues_is_one_line_and_leaves_what_was_there(tmp_path):
    source = write(tmp_path / "rows.jsonl", [{"instruction": "별은?", "output": "멀어요"}])
    (tmp_path / KEPT).write_text("before", encoding="utf-8")
    with pytest.raises(UserError, match="no row has a dialogue; expected a column conversations or messages"):
        sift(source, tmp_path, QualityConfig(), personas={})
    assert (tmp_path / KEPT).read_text(encoding="utf-8") == "before" and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", [KEPT, DROPPED, "link.jsonl"])
def test_what_would_be_overwritten_is_not_read(tmp_path, name):
    rows = [bare(KOREAN[0]), spoilt("copying", KOREAN[1])]
    before = [write(tmp_path / file, rows).read_bytes() for file in (KEPT, DROPPED)]
    (tmp_path / "link.jsonl").symlink_to(tmp_path / KEPT)
    with pytest.raises(UserError, match=f"{name}: would be overwritten, .*Choose another --out"):
        sift(tmp_path / name, tmp_path / "x" / "..", QualityConfig(), personas={})
    assert [(tmp_path / file).read_bytes() for file in (KEPT, DROPPED)] == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": Path("none.jsonl")}, "none.jsonl: no such file or folder. Check INPUT"),
        ({"persona": "orbitt"}, "persona 'orbitt' is not defined; .*Did you mean 'orbit'. Check --persona"),
        ({"personas": "none.yaml"}, "none.yaml: cannot be read .*Check --personas"),
    ],
    ids=["file", "persona", "personas"],
)
def test_a_mistake_on_the_command_line_is_called_by_its_option(tmp_path, options, says):
    source = write(tmp_path / "day.jsonl", [bare(KOREAN[0])])
    with pytest.raises(UserError, match=says) as told:
        quality(**{"source": source, "out": tmp_path / "o", **options})
    assert "config" not in str(told.value)
    assert not (tmp_path / "o").exists()


def test_the_page_shows_every_text_to_the_letter(tmp_path):
    messages = [
        {"role": "user", "content": "왜?"},
        {"role": "assistant", "content": f"{ATTACK} 별이 멀어요. \ud800"},
    ] * 2
    source = write(tmp_path / "day.jsonl", [{"messages": messages, "persona": ATTACK}, bare(KOREAN[0])])
    sifted = sift(source, tmp_path, QualityConfig(), personas=PERSONAS)
    write_quality_report(tmp_path / "report.html", sifted, title=ATTACK)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ATTACK not in page and "<script>window" not in page and "49" not in page.partition("<h1>")[2][:200]
    assert "1 of 2 dialogues are within the limits" in page and "Catchphrase overuse" in page
    assert all(f'<div id="{name}"' in page for name in FAILURES), "the figures are drawn"
    assert "http://" not in page.rpartition("<body>")[2] and "{{ 7*7 }}" in page


def test_the_command_takes_a_project_and_a_file(tmp_path):
    rows = [{**row, "id": f"{n}", "instruction": "왜?"} for n, row in enumerate([*KOREAN[:2], *ENGLISH[:1]])]
    rows.append({**FAILURES["copying"](KOREAN[3], random.Random(2)), "id": "9"})
    (tmp_path / "work" / "generate").mkdir(parents=True)
    pq.write_table(to_table(rows, GENERATED), tmp_path / "work" / "generate" / "rows.parquet")
    project = "project: p\nworkdir: work\ncorpus: [{path: 'sample:ko'}]\njudge: {quality: {copying: 0.9}}\n"
    (tmp_path / "p.yaml").write_text(project, encoding="utf-8")

    told = lingo_here("quality", "p.yaml", "--copying", "0.4", "--json", folder=tmp_path)
    assert json.loads(told.stdout)["kept"] == 3, told.stderr
    assert {path.name for path in (tmp_path / "work" / "quality").iterdir()} == {KEPT, DROPPED, "report.html"}
    with pytest.raises(UserError, match="--copying: input should be less than or equal to 1"):
        quality(tmp_path / "p.yaml", copying=4)
