"""Corpus rows for the tests of generation."""

from lingo_hitl.records import CORPUS, content_id, to_table


def seed(instruction, output="", *, source="songs", language="ko", source_id="1"):
    return {
        "id": content_id("corpus", {"instruction": instruction, "output": output}),
        "instruction": instruction,
        "output": output,
        "source": source,
        "source_id": source_id,
        "language": language,
    }


def table(*seeds):
    return to_table(seeds, CORPUS)
