"""KoQuality on 20,000 Korean rows, one thread, CPU seconds: each stage beside the original's loops.

    make bench WHAT=koquality                      everything: about 15 minutes on 2 cores
    make bench WHAT="koquality --quick"            the same on few rows: about a minute, for a look
    python -m benchmarks koquality --help          which sections, how many rows, where files go

Sections:
    loops    `curate run`, balanced and exact, beside a re-telling of the original (`benchmarks.original`);
             perplexity beside the floor of its arithmetic (`benchmarks.floor`); how far the two agree
    base     a base-size encoder (12 x 768) beside the original's loop
    growth   seconds and peak memory at 2,000, 20,000 and 200,000 rows, with tiny models
    million  the same at 1,000,000 rows; only where asked for
    gpu      models of the real sizes in bfloat16 (`benchmarks.real_sizes`); only where there is a GPU

Rows are real ones of ../shared/data where that is there, else the shipped sample, varied. Models have random
weights (`benchmarks.made_models`). The original's two model loops are timed on an even part of the rows and
multiplied; its k-means and sampling run on all of them, once for the K that ours runs (the original always
runs five). Both sides are warmed up on a few rows first, so imports do not count; loading the models counts
for ours only.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import parts, real_sizes
from benchmarks.alone import alone
from benchmarks.made_models import (
    NEOX_20M,
    NEOX_TINY,
    ROBERTA_BASE,
    ROBERTA_SMALL,
    ROBERTA_TINY,
    Shape,
    make_gpt_neox,
    make_roberta,
)
from benchmarks.rows import thin, write_rows
from benchmarks.sections import Line, plan_of, run_sections

SECTIONS = ("loops", "base", "growth", "million", "gpu")


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rows: int = 20_000
    part: int = 500  # rows on which the original's model loops are timed
    clusters: int = 100  # in each of five length groups
    base_rows: int = 1_000
    base_part: int = 20
    growth: tuple[int, ...] = (2_000, 20_000, 200_000)
    sections: tuple[str, ...] = ("loops", "base", "growth", "gpu")
    tiny: bool = False  # tiny models everywhere: only to see that it runs
    device: str = "cuda"  # of the section gpu


QUICK = Plan(rows=1_000, part=50, clusters=20, base_rows=200, base_part=5, growth=(500, 2_000))


def main(options: list[str]) -> None:
    plan, folder = _parsed(options)
    sections = [section for section in SECTIONS if section in plan.sections]
    run_sections(
        f"KoQuality on {plan.rows:,} Korean rows, one thread, CPU seconds",
        sections,
        lambda section, folder: measure(section, plan, folder),
        folder,
    )


def measure(section: str, plan: Plan, folder: Path) -> Iterator[Line]:
    """Make in `folder` what a section needs, and tell its figures as they come."""
    sections: dict[str, Callable[[Plan, Path], Iterator[Line]]] = {
        "loops": _loops,
        "base": _base,
        "growth": _growth,
        "million": _million,
        "gpu": _gpu,
    }
    yield from sections[section](plan, folder)


def _loops(plan: Plan, folder: Path) -> Iterator[Line]:
    rows, whose = _rows(folder, plan.rows)
    part = thin(rows, folder / f"part-{plan.part}.jsonl", plan.part)
    shapes = (NEOX_TINY, ROBERTA_TINY) if plan.tiny else (NEOX_20M, ROBERTA_SMALL)
    models, sizes = _models(folder, "small", rows, *shapes)
    yield Line("rows", f"{plan.rows:,}", whose)
    for name, size, shape in zip(("GPT-NeoX", "RoBERTa"), sizes, shapes, strict=True):
        yield Line(f"{name}, parameters", f"{size / 1e6:.1f} M", _told(shape))
    same = {**models, "rows": str(rows), "clusters": plan.clusters}
    exact_out, balanced_out = str(_fresh(folder / "exact")), str(_fresh(folder / "balanced"))
    exact = alone(parts.ours, threads=1, method="exact", out=exact_out, **same)
    original = alone(parts.original, threads=1, part=str(part), exact=exact_out, **same)
    balanced = alone(parts.ours, threads=1, method="balanced", floor=True, out=balanced_out, **same)
    scale = plan.rows / original["rows"]
    beside = {
        name: cost * (scale if name in ("perplexity", "embedding") else 1) for name, cost in original["stages"].items()
    }
    for method, costs in (("balanced", balanced["stages"]), ("exact", exact["stages"])):
        for stage, cost in costs.items():
            yield _faster(f"{method}: {stage}", cost, beside[stage])
        yield _faster(f"{method}: whole", sum(costs.values()), sum(beside.values()), "at least 7 x")
    cost, floor = balanced["stages"]["perplexity"], balanced["floor"]
    told = f"{cost:.1f} s", f"{floor:.1f} s", f"{cost / floor:.2f}"
    yield Line("balanced: perplexity beside its floor", *told, "at most 1.30")
    yield from _agreement(original)


def _agreement(original: dict[str, Any]) -> Iterator[Line]:
    """How far the exact method is from the original on the rows that both did."""
    yield Line("exact: perplexity, largest difference", f"{original['perplexity']:.1e}", "relative", "", "at most 1e-4")
    yield Line("exact: vectors, largest difference", f"{original['vectors']:.1e}", "", "", "at most 1e-4")
    for what in ("length groups", "sample"):
        yield Line(f"exact: {what}", "as the original's" if original[what] else "DIFFERENT")


def _base(plan: Plan, folder: Path) -> Iterator[Line]:
    rows, _ = _rows(folder, plan.rows)
    few = {
        "rows": thin(rows, folder / "base-rows.jsonl", plan.base_rows),
        "part": thin(rows, folder / "base-part.jsonl", plan.base_part),
    }
    encoder, shape = folder / "roberta-base", ROBERTA_TINY if plan.tiny else ROBERTA_BASE
    size = make_roberta(encoder, shape, rows)
    out = str(_fresh(folder / "base"))
    costs = alone(
        parts.base_size, threads=1, encoder=str(encoder), out=out, **{name: str(path) for name, path in few.items()}
    )
    yield Line("base-size RoBERTa, parameters", f"{size / 1e6:.0f} M", _told(shape))
    what = f"embedding, a row ({plan.base_rows:,} rows; original {plan.base_part})"
    ours, theirs = costs["ours"], costs["original"]
    yield Line(what, f"{1000 * ours:.1f} ms", f"{1000 * theirs:.0f} ms", f"{theirs / ours:.1f} x", "at least 30 x")


def _growth(plan: Plan, folder: Path) -> Iterator[Line]:
    for count in plan.growth:
        rows, _ = _rows(folder, count)
        models, _ = _models(folder, "tiny", rows, NEOX_TINY, ROBERTA_TINY)
        out = _fresh(folder / f"growth-{count}")
        found = alone(
            parts.ours, threads=1, method="balanced", clusters=plan.clusters, rows=str(rows), out=str(out), **models
        )
        seconds = sum(found["stages"].values())
        most = max(found["stages"], key=lambda stage: found["stages"][stage])
        peak, before = (f"{found[name] / 1e6:,.0f} MB" for name in ("peak", "before"))
        told = (
            f"{seconds:.1f} s",
            f"most in {most}: {found['stages'][most]:.1f} s",
            f"{1000 * seconds / count:.2f} ms a row",
        )
        yield Line(f"{count:,} rows, tiny models", *told)
        yield Line(f"{count:,} rows, peak memory", peak, f"imports and models {before}")
        shutil.rmtree(out)


def _million(plan: Plan, folder: Path) -> Iterator[Line]:
    yield from _growth(replace(plan, growth=(1_000_000,)), folder)


def _gpu(plan: Plan, folder: Path) -> Iterator[Line]:
    if plan.device == "cuda" and not _has_gpu():
        yield Line("models of the real sizes", "left out", "no CUDA GPU here")
        return
    rows, _ = _rows(folder, plan.rows)
    found = alone(real_sizes.measure, rows=str(rows), folder=str(folder), device=plan.device, tiny=plan.tiny)
    yield Line(f"bfloat16 matrix product, {found['device']}", f"{found['matrix'] / 1e12:,.2f} TFLOP/s")
    for stage in ("perplexity", "embedding"):
        rate = found[stage]["FLOPs a second"]
        yield Line(
            f"{stage}, {found['shapes'][stage]}",
            f"{found[stage]['rows a second']:,.0f} rows/s",
            f"{rate / 1e12:,.2f} TFLOP/s",
            f"{rate / found['matrix']:.0%}",
        )


def _rows(folder: Path, count: int) -> tuple[Path, str]:
    path = folder / f"rows-{count}.jsonl"
    return path, write_rows(path, count)


def _models(folder: Path, size: str, rows: Path, neox: Shape, roberta: Shape) -> tuple[dict[str, str], tuple[int, int]]:
    """Folders of both models by the name of their option, and their parameters."""
    places = {"perplexity_model": folder / f"{size}-neox", "encoder": folder / f"{size}-roberta"}
    sizes = make_gpt_neox(places["perplexity_model"], neox, rows), make_roberta(places["encoder"], roberta, rows)
    return {name: str(place) for name, place in places.items()}, sizes


def _fresh(out: Path) -> Path:
    """A folder in which nothing ran before: a stage that is done would cost nothing."""
    for path in (out, Path(f"{out}-warm")):
        shutil.rmtree(path, ignore_errors=True)
    return out


def _told(shape: Shape) -> str:
    return f"{shape.layers} x {shape.hidden}, vocabulary {shape.vocabulary:,}"


def _faster(what: str, ours: float, theirs: float, target: str = "") -> Line:
    return Line(what, f"{ours:.1f} s", f"{theirs:.1f} s", f"{theirs / ours:.1f} x" if ours > 0.05 else "", target)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _parsed(options: list[str]) -> tuple[Plan, Path | None]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks koquality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--tiny", action="store_true", help="tiny models, only to see that it runs")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="all but million where absent")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--part", type=int, help="rows on which the original's model loops are timed")
    parser.add_argument("--clusters", type=int, help="k-means clusters in each length group")
    parser.add_argument("--growth", type=int, nargs="+", help="numbers of rows of the section growth")
    parser.add_argument("--device", help="of the section gpu; cuda where absent")
    parser.add_argument("--folder", type=Path, help="keep rows, models and what they made here")
    return plan_of(parser, options, Plan(), QUICK)
