"""KoQuality on a `datasets.Dataset`, for a notebook or a script."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lingo_hitl.config import Corpus, DType, KoQualityConfig, Pooling, PrepareConfig
from lingo_hitl.curation import run as stages
from lingo_hitl.curation.folders import read_selection, sampled_rows
from lingo_hitl.curation.koquality import Sampling, Selection
from lingo_hitl.project_file import checked

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Curation:
    """What KoQuality made of a dataset.

    Attributes:
        rows: every row with the columns of `curation.folders.ROWS`, its reason among them.
        selected: those that were picked.
        report: counts, settings and measures of the sample; plain JSON values.
        out: the folder with the stages, the files and the pictures; one made for the purpose goes with this object.
    """

    rows: Dataset
    selected: Dataset
    report: dict[str, Any]
    out: Path
    selection: Selection = field(repr=False)

    def at(self, ratio: float, *, sampling: Sampling | None = None) -> Dataset:
        """What another ratio or way of sampling picks from the same clusters; no model runs again, no file changes."""
        again = self.selection.at(ratio, sampling=sampling)
        return _dataset(sampled_rows(self.out, again))


def koquality(
    dataset: Dataset,
    *,
    perplexity_model: str,
    encoder: str,
    length_groups: int = 5,
    clusters: int = 100,
    ratio: float = 0.01,
    sampling: Sampling = "ppl",
    method: str = "balanced",
    id_column: str | None = None,
    instruction_column: str | None = None,
    output_column: str | None = None,
    quality_column: str | None = None,
    pooling: Pooling = "auto",
    dtype: DType = "float32",
    device: str | None = None,
    crew: stages.Crew = stages.HERE,
    preparation: PrepareConfig = stages.AS_IT_COMES,
    out: Path | None = None,
    **settings: Any,
) -> Curation:
    """Pick a small, good, varied part of `dataset`, as `lingo-hitl curate run` does of files.

    Args:
        perplexity_model, encoder: a folder, a hub id, or `packaged/kiwi`.
        out: where the stages leave their folders, so that an interrupted call goes on; a temporary one where absent.
        settings: the rest of `config.KoQualityConfig`, such as `seed` and `keep_perplexity`.

    Raises:
        UserError: columns, a model or a setting with which it cannot be done.

    >>> from datasets import Dataset
    >>> data = Dataset.from_list([{"instruction": f"{n}에 {n}를 더하면?", "output": str(2 * n)} for n in range(20)])
    >>> found = koquality(data, perplexity_model="packaged/kiwi", encoder="packaged/kiwi", clusters=2, ratio=0.25)
    >>> found.selected.num_rows, found.at(0.5).num_rows
    (5, 10)
    """
    asked = {"length_groups": length_groups, "clusters": clusters, "ratio": ratio, "sampling": sampling}
    config = checked(KoQualityConfig, {**asked, "method": method, **settings})
    named = {"id": id_column, "instruction": instruction_column, "output": output_column, "quality": quality_column}
    folder = out or Path(tempfile.mkdtemp(prefix="koquality-"))
    try:
        source = folder / ".dataset.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        dataset.to_parquet(str(source))
        columns = {key: name for key, name in named.items() if name}
        corpus = checked(Corpus, {"path": str(source), "source": "dataset", "columns": columns})
        manifest = stages.run(
            [corpus],
            folder,
            perplexity_model=stages.perplexity_model(perplexity_model, config, dtype, device),
            encoder=stages.encoder(encoder, config, pooling, dtype, device),
            config=config,
            preparation=preparation,
            crew=crew,
        )
        found = Curation(
            rows=_dataset(pq.read_table(folder / "rows.parquet")),
            selected=_dataset(pq.read_table(folder / "selected.parquet")),
            report=manifest.report,
            out=folder,
            selection=read_selection(folder, config),
        )
    except BaseException:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if out is None:
        weakref.finalize(found, shutil.rmtree, folder, ignore_errors=True)
    return found


def _dataset(table: Any) -> Dataset:
    from datasets import Dataset

    return Dataset(table)
