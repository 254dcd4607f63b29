"""Files by day: appended to, never twice the same dialogue, whole after whatever happened."""

import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.lingo_chat.day_files import DayFile

MONDAY, TUESDAY = date(2024, 7, 1), date(2024, 7, 2)


def line(text, **more):
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "네.\u2028\n"}]
    return {"messages": messages, "persona": "orbit", "score": 4.0, **more}


def contents(path):
    return [json.loads(text)["messages"][0]["content"] for text in path.read_text(encoding="utf-8").split("\n") if text]


def save(lines, folder, day=MONDAY):
    with DayFile(folder, day) as file:
        return [file.add(line) for line in lines]


def test_what_any_day_of_the_folder_holds_is_not_written_again(tmp_path):
    assert save([line("가"), line("나"), line("가")], tmp_path) == [True, True, False]
    again = [line("가", score=1.0), line("다"), line("가", persona="clio")]
    assert save(again, tmp_path, TUESDAY) == [False, True, True]
    assert contents(tmp_path / "240701.jsonl") == ["가", "나"]
    assert contents(tmp_path / "240702.jsonl") == ["다", "가"]


def test_lines_of_others_stay_and_files_of_others_are_not_looked_at(tmp_path):
    path = tmp_path / "240701.jsonl"
    before = b'not json\n[1, 2]\n{"messages": 3}\n{"messages": [{"role": "user"}]}\n\n{"score": 1, "messages": []}'
    path.write_bytes(before)
    (tmp_path / "mine.jsonl").write_text(json.dumps(line("가")) + "\n", encoding="utf-8")
    with DayFile(tmp_path, MONDAY) as file:
        assert file.add(line("가")) and (file.added, file.there) == (1, 0)
        assert file.count_below(3.0) == 1
    assert path.read_bytes().startswith(before + b"\n")


@given(st.lists(st.text(max_size=20), max_size=8), st.integers(min_value=0))
@settings(max_examples=40, deadline=None)
def test_wherever_a_write_was_cut_off_the_next_run_makes_it_whole(texts, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "240701.jsonl"
        save(map(line, texts), Path(folder))
        whole = path.read_bytes()
        path.write_bytes(whole[: cut % (len(whole) + 1)])
        save(map(line, texts), Path(folder))
        assert path.read_bytes() == whole


def test_two_processes_at_once_write_each_dialogue_once(tmp_path):
    code = """
import sys
from datetime import date
from pathlib import Path
from lingo_hitl.lingo_chat.day_files import DayFile
with DayFile(Path(sys.argv[1]), date(2024, 7, 1)) as file:
    for text in (mark + str(n) for n in range(400) for mark in ("", sys.argv[2])):
        file.add({"messages": [{"role": "user", "content": text}]})
"""
    root = Path(__file__).parents[2]
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name], cwd=root) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    found = contents(tmp_path / "240701.jsonl")
    assert sorted(found) == sorted(mark + str(n) for n in range(400) for mark in ("", "a", "b"))
