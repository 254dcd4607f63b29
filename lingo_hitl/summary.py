"""What a stage prints when it is done: one line, and below it what a person wants to know of it."""

from __future__ import annotations

import json
from dataclasses import asdict

from lingo_hitl.stages import Manifest
from lingo_hitl.usage_table import print_usage

REASONS = 5
"""Reasons for drops that are told, the commonest."""


def tell(manifest: Manifest, *, as_json: bool = False) -> None:
    """Print a stage's counts and its commonest reasons for drops, or its whole manifest as JSON."""
    if as_json:
        print(json.dumps(asdict(manifest), ensure_ascii=False))
        return
    done = "done before" if manifest.skipped else f"{manifest.seconds:.1f} s"
    print(f"{manifest.stage:10} {manifest.rows_out:>7} rows  {manifest.rows_dropped:>5} dropped  {done}", flush=True)
    if manifest.unfinished:
        print("           some replies failed for now: the same command asks for them again")
    for line in _details(manifest):
        print(f"           {line}")
    if not manifest.skipped:
        print_usage(manifest.report, indent=11)


def _details(manifest: Manifest) -> list[str]:
    lines = _lost(manifest)
    for name, counts in manifest.report.get("datasets", {}).items():
        lines.append(f"{name}: " + (", ".join(f"{count} {what}" for what, count in counts.items() if count) or "empty"))
    for what in ("answers_to_rows_that_are_no_longer_here", "answers_about_a_text_changed_in_argilla"):
        if count := manifest.report.get(what):
            lines.append(f"{count} {what.replace('_', ' ')}; the ledger keeps them")
    for source, about in manifest.report.get("sources", {}).items():
        if count := about.get("without output"):
            lines.append(f"{source}: {count} rows have no output")
    asked, got = manifest.report.get("asked for"), manifest.report.get("selected")
    if asked is not None and asked != got and "note" not in manifest.report:
        lines.append(f"{asked} were asked for: the original rounds in each cluster, which gives {got}")
    if lost := manifest.report.get("lost, of one token"):
        lines.append(f"{lost} rows of one token are lost, as the original loses them")
    for judge, counts in manifest.report.get("judges", {}).items():
        told = ", ".join(f"{what} {count}" for what, count in counts.items() if count and "token" not in what)
        lines.append(f"{judge}: {told or 'no ratings'}")
    for variable, counts in manifest.report.get("keys", {}).items():
        if why := counts.get("refused"):
            lines.append(f"warning: key {variable} was refused and used no more ({why})")
    lines += [f"warning: {warning}" for warning in manifest.report.get("warnings", [])]
    if note := manifest.report.get("note"):
        lines.append(note)
    if (before := manifest.report.get("batches done before")) and not manifest.skipped:
        lines.append(f"{before} of {manifest.report['batches']} batches were done before it was interrupted")
    return lines


def _lost(manifest: Manifest) -> list[str]:
    """What did not go on, or not whole."""
    lines = [f"dropped {count}: {reason}" for reason, count in list(manifest.drops.items())[:REASONS]]
    if others := sum(list(manifest.drops.values())[REASONS:]):
        lines.append(f"dropped {others}: other reasons, see {manifest.stage}/dropped.parquet")
    for what in ("dialogues that ended at a failed turn", "completions left out"):
        if count := manifest.report.get(what):
            lines.append(f"{count} {what}")
    return lines
