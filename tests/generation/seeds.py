"""Corpus rows for the tests of generation."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from lingo_hitl.generation.generate import generate
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from lingo_hitl.records import CORPUS, GENERATED, content_id, to_table
from lingo_hitl.stages import RowFile


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


class Impatient(Session):
    """A session whose models wait no second before they ask again after a server error."""

    def llm(self, spec):
        model = super().llm(spec)
        model.backoff_s = 0.001
        return model


def grown(rows, config, journal=None):
    """The stage's outcome, with its rows read back from the file."""
    with TemporaryDirectory() as folder, RowFile(Path(folder) / "rows", GENERATED) as out:
        outcome = generate(rows, config, session=Impatient(journal or Journal.in_memory()), out=out)
        return replace(outcome, rows=pq.read_table(outcome.rows))
