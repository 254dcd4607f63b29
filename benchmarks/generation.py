"""Generation against a loopback Gemini: what it makes of its quotas, what a call costs, what memory it takes.

    make bench WHAT=generation                      everything: about 10 minutes on 2 cores
    make bench WHAT="generation --quick"            the same on little: three minutes, for a look
    python -m benchmarks generation --help          which sections, how many dialogues, where files go

Sections:
    quotas    8 keys at 60 requests a minute each, of which time passes 20 times faster; 0.5 to 3 s latency,
              now and then a straggler of 10 s, 5 % faults: the share of what the quotas allow that
              `lingo-hitl generate` uses, beside distilabel's own TextGeneration in a Pipeline with the same
              LLM, and beside one thread a key that sleeps 6 s (here 0.3 s) between turns, as Lingo_Chat does
    overhead  CPU milliseconds a call of the whole command, without its start and without what the bare SDK
              costs for the same calls; no latency, no faults
    memory    the most memory of the command at few and at many dialogues; no latency, no faults

All ask the same process in which the loopback runs (`tests.providers`), which writes down every call; rates
are read from its log. The command is the real one, started as a user starts it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loopback import ROOT, Calls, Loopback, loopback, read_calls
from benchmarks.sections import Line, plan_of, run_sections

SECTIONS = ("quotas", "overhead", "memory")
KEYS, A_MINUTE, SCALE = 8, 60, 20.0
ALLOWED = KEYS * A_MINUTE * SCALE / 60  # requests a second
TURNS = 2
CALLS_A_DIALOGUE = 2 * TURNS
WEATHER = ("--latency", "0.5", "3", "--stragglers", "0.003", "10", "--faults", "0.05")
FAULTS = ("429", "500", "502", "503", "reset", "cut", "truncated")
LIMITS = ("--requests-per-minute", str(A_MINUTE), "--scale", str(SCALE))
RAMP_S = 2 * 60 / SCALE
"""Two of the quotas' minutes: in the first each key spends at once what it had saved up."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    dialogues: int = 2_400  # in the section quotas: about a minute of what they allow
    rival_calls: int = 400  # of distilabel's
    rival_seconds: float = 20.0  # of the thread a key
    overhead_dialogues: int = 1_000
    memory_dialogues: tuple[int, ...] = (1_000, 20_000)
    sections: tuple[str, ...] = SECTIONS


QUICK = Plan(dialogues=800, rival_calls=150, rival_seconds=10.0, overhead_dialogues=150, memory_dialogues=(300, 3_000))


def main(options: list[str]) -> None:
    plan, folder = _parsed(options)
    sections = [section for section in SECTIONS if section in plan.sections]
    run_sections(
        "Generation against a loopback Gemini", sections, lambda section, folder: measure(section, plan, folder), folder
    )


def measure(section: str, plan: Plan, folder: Path) -> Iterator[Line]:
    """Tell a section's figures as they come; what it needs is made in `folder`."""
    sections: dict[str, Callable[[Plan, Path], Iterator[Line]]] = {
        "quotas": _quotas,
        "overhead": _overhead,
        "memory": _memory,
    }
    yield from sections[section](plan, folder)


def _quotas(plan: Plan, folder: Path) -> Iterator[Line]:
    weather = (*WEATHER, "--kinds", *FAULTS, *LIMITS)
    bodies = folder / "bodies.jsonl"
    bodies.unlink(missing_ok=True)
    with loopback(folder, *weather, "--bodies", str(bodies), keys=KEYS) as gemini:
        _generate(gemini, folder / "quotas", plan.dialogues, a_minute=A_MINUTE * SCALE)
    calls = read_calls(gemini.log)
    start, stop = calls.arrived[0] + RAMP_S, calls.arrived[len(calls) * 9 // 10]
    accepted, useful = (count(start, stop) / (stop - start) for count in (calls.accepted, calls.useful))
    yield Line(
        f"requests a second, {KEYS} keys, {stop - start:.0f} s",
        f"{accepted:.1f}",
        f"{ALLOWED:.0f} allowed",
        f"{accepted / ALLOWED:.0%}",
        "at least 90%",
    )
    refused = len(calls) - calls.accepted()
    yield Line("useful completions a second", f"{useful:.1f}", f"{ALLOWED:.0f}", f"{useful / ALLOWED:.0%}")
    yield Line("requests that a quota refused", f"{refused:,}", f"{len(calls):,} in all", f"{refused / len(calls):.1%}")
    whole = calls.useful() / (calls.arrived[-1] - calls.arrived[0])
    yield Line("useful completions a second, beginning and end counted", f"{whole:.1f}", f"{ALLOWED:.0f}")
    journal = folder / "rival.sqlite"
    journal.unlink(missing_ok=True)
    paced = ("--a-minute", str(A_MINUTE * SCALE), "--scale", str(SCALE))
    rivals = {
        "distilabel's TextGeneration": ("distilabel_pipeline", plan.rival_calls, ("--journal", str(journal))),
        "one thread a key with sleeps": ("one_thread_a_key", len(calls), ("--seconds", str(plan.rival_seconds))),
    }
    for told, (rival, most, options) in rivals.items():
        with loopback(folder, *weather, keys=KEYS) as gemini:
            _rival(gemini, rival, bodies, most, *paced, *options)
        rate = _rate(read_calls(gemini.log))
        yield Line(f"beside {told}, useful a second", f"{useful:.1f}", f"{rate:.1f}", f"{useful / rate:.1f} x")


def _overhead(plan: Plan, folder: Path) -> Iterator[Line]:
    bodies, out = folder / "bodies.jsonl", folder / "sdk.json"
    bodies.unlink(missing_ok=True)
    with loopback(folder, keys=KEYS) as gemini:
        start = _generate(gemini, folder / "start", 1)
    with loopback(folder, "--bodies", str(bodies), keys=KEYS) as gemini:
        cost = _generate(gemini, folder / "overhead", plan.overhead_dialogues)
    count = len(read_calls(gemini.log)) - CALLS_A_DIALOGUE
    with loopback(folder, keys=KEYS) as gemini:
        _rival(gemini, "bare_sdk", bodies, count, "--out", str(out))
    sdk = 1000 * json.loads(out.read_text(encoding="utf-8"))["cpu"]
    whole = 1000 * (cost["cpu"] - start["cpu"]) / count
    yield Line(
        f"CPU a call, {count:,} calls",
        f"{whole:.2f} ms",
        f"{sdk:.2f} ms bare SDK",
        f"{whole - sdk:.2f} ms more",
        "at most 3 ms",
    )


def _memory(plan: Plan, folder: Path) -> Iterator[Line]:
    peaks = {}
    for dialogues in plan.memory_dialogues:
        with loopback(folder, keys=KEYS) as gemini:
            peaks[dialogues] = _generate(gemini, folder / f"memory-{dialogues}", dialogues)["peak"] / 1e6
        shutil.rmtree(folder / f"memory-{dialogues}")
    few, many = min(peaks), max(peaks)
    growth = 1000 * (peaks[many] - peaks[few]) / (many - few)
    yield Line(
        f"peak memory, {many:,} dialogues beside {few:,}",
        f"{peaks[many]:.0f} MB",
        f"{peaks[few]:.0f} MB",
        f"{peaks[many] / peaks[few]:.2f} x",
        "flat",
    )
    yield Line("memory that a further dialogue takes", f"{growth:.1f} kB")


def _rate(calls: Calls) -> float:
    """Useful completions a second from the first call to the last."""
    return calls.useful() / (calls.arrived[-1] - calls.arrived[0])


def _generate(gemini: Loopback, folder: Path, dialogues: int, *, a_minute: float = 60_000) -> dict[str, Any]:
    """Run the command on that many seeds; CPU seconds and peak bytes of its process."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "seeds.jsonl").open("w", encoding="utf-8") as seeds:
        for n in range(dialogues):
            row = {"instruction": f"별 {n}번은 왜 반짝이나요?", "output": f"대기가 {n}번 흔들리기 때문입니다."}
            print(json.dumps(row, ensure_ascii=False), file=seeds)
    model = {"model": "gemini/gemini-2.0-flash", "api_key_env": list(gemini.keys), "max_new_tokens": 512}
    dialogue = {"user": model, "assistant": {**model, "temperature": 0.15}, "target_turns": TURNS}
    quotas = {key: {"requests_per_minute": a_minute} for key in gemini.keys}
    project = {
        "project": "bench",
        "corpus": [{"path": "seeds.jsonl"}],
        "quotas": quotas,
        "generate": {"dialogue": dialogue},
    }
    (folder / "project.yaml").write_text(json.dumps(project), encoding="utf-8")
    cost = folder / "cost.json"
    _run(gemini, "benchmarks.watched", str(cost), "generate", str(folder / "project.yaml"))
    return dict(json.loads(cost.read_text(encoding="utf-8")))


def _rival(gemini: Loopback, rival: str, bodies: Path, most: int, *options: str) -> None:
    _run(gemini, "benchmarks.rivals", rival, str(bodies), str(most), *gemini.keys, *options)


def _run(gemini: Loopback, module: str, *words: str) -> None:
    """Run a module in a process of its own.

    Raises:
        RuntimeError: it failed; what it wrote last is in the message.
    """
    ended = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=gemini.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{module} {words[0]} ended with {ended.returncode}: {ended.stderr[-3000:]}")


def _parsed(options: list[str]) -> tuple[Plan, Path | None]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks generation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="all where absent")
    parser.add_argument("--dialogues", type=int, help="of the section quotas")
    parser.add_argument("--overhead-dialogues", type=int)
    parser.add_argument("--memory-dialogues", type=int, nargs="+", help="few and many")
    parser.add_argument("--folder", type=Path, help="keep what was made here")
    return plan_of(parser, options, Plan(), QUICK)
