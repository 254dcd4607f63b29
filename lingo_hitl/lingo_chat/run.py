"""Lingo_Chat's whole run: dialogues, their scores, and the two files of the day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lingo_hitl import pipeline
from lingo_hitl.config import Project, only_task
from lingo_hitl.lingo_chat.day_files import Saved, count_below, day_file, save
from lingo_hitl.lingo_chat.post_processing import cleaned
from lingo_hitl.lingo_chat.settings import LingoChat, as_project, read_settings
from lingo_hitl.project_file import expanded
from lingo_hitl.records import Task
from lingo_hitl.stages import Manifest, read_dropped, read_rows

Line = dict[str, Any]
BATCH_ROWS = 1000


def run(
    content: Mapping[str, Any],
    path: Path,
    *,
    task: Task | None = None,
    workdir: Path | None = None,
    tell: Callable[[Manifest], None],
    say: Callable[[str], None],
) -> None:
    """Do what Lingo_Chat's YAML at `path` says; its stages stay in the project's workdir.

    Both files are named by the day on which the run began, also where it goes past midnight.

    Raises:
        UserError: whatever in the YAML, the keys, the seeds or the models has to be mended first.
    """
    began = date.today()
    settings = read_settings(content, path)
    project = only_task(as_project(settings, path, workdir=workdir), task)
    if unused := settings.not_used():
        say(f"Read and not used: {', '.join(unused)}.")
    generated, judged = pipeline.generate(project), pipeline.judge(project)
    tell(generated)
    tell(judged)
    unfinished = generated.unfinished or judged.unfinished
    for line in _write(settings, project, began, unfinished=unfinished):
        say(line)


def dialogue_line(row: Mapping[str, Any], score: float | None, feedback: str | None, url: str | None) -> Line:
    """A dialogue as Lingo_Chat writes it.

    Paragraphs of an answer are what blank lines part, words what single spaces part, as its users count them.
    """
    answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
    return {
        "instruction": row["messages"][0]["content"],
        "ans_num_paragraphs": [len(answer.split("\n\n")) for answer in answers],
        "ans_num_words": [len(answer.split(" ")) for answer in answers],
        "num_turns": len(answers),
        "messages": [{"role": message["role"], "content": message["content"]} for message in row["messages"]],
        "url": url,
        "persona": row["persona"],
        "score": score,
        "score_feedback": feedback,
    }


def post_processed(line: Line) -> Line:
    """The line with its answers cleaned, and counted anew."""
    messages: list[dict[str, str]] = []
    for message in line["messages"]:
        said = message["content"]
        if message["role"] == "assistant":
            said = cleaned(said, messages[-1]["content"])
        messages.append({"role": message["role"], "content": said})
    return dialogue_line({**line, "messages": messages}, line["score"], line["score_feedback"], line["url"])


def _write(settings: LingoChat, project: Project, day: date, *, unfinished: bool) -> Iterator[str]:
    files, threshold = settings.files, settings.scoring.score_threshold
    wanted = settings.multiturn_generation.target_turn

    def whole(line: Line) -> bool:
        # What is not finished comes out otherwise the next time: then it would stand there twice.
        return not unfinished or (line["score"] is not None and line["num_turns"] == wanted)

    def good(line: Line) -> bool:
        return line["score"] is not None and line["score"] >= threshold

    raw = save((line for line in _lines(project) if whole(line)), day_file(_folder(files.jsonl_save_dir), day))
    yield _told(raw, "")
    kept = (post_processed(line) for line in _lines(project) if whole(line) and good(line))
    filtered = save(kept, day_file(_folder(files.filtered_save_dir), day))
    yield _told(filtered, f" of {threshold:g} and better")
    if held := sum(not whole(line) for line in _lines(project)):
        yield f"{held} dialogues wait for replies that failed for now: the same command asks for them again."
    if below := count_below(filtered.path, threshold):
        yield f"{filtered.path}: {below} dialogues there are below {threshold:g}, from a run with a lower threshold."


def _lines(project: Project) -> Iterator[Line]:
    """Every dialogue of the project with its score; without one the feedback says why."""
    rated = read_rows(project.workdir, "judge").select(["id", "ratings", "rationales"]).to_pylist()
    scores = {row["id"]: (row["ratings"][0], row["rationales"][0]) for row in rated}
    scores |= {row["id"]: (None, row["reason"]) for row in read_dropped(project.workdir, "judge")}
    seeds = read_rows(project.workdir, "corpus").select(["id", "url"]).to_pylist()
    urls = {row["id"]: row["url"] for row in seeds if row["url"]}
    with pq.ParquetFile(project.workdir / "generate" / "rows.parquet") as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["id", "seed", "messages", "persona"]):
            for row in batch.to_pylist():
                yield dialogue_line(row, *scores.get(row["id"], (None, None)), urls.get(row["seed"]))


def _told(saved: Saved, which: str) -> str:
    before = f"; {saved.there} were there before" if saved.there else ""
    return f"{saved.path}: {saved.added} dialogues{which} added{before}"


def _folder(path: str) -> Path:
    return Path.cwd() / expanded(Path(path))
