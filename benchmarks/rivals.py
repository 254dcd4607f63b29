"""Two other ways to ask Gemini for many texts, and the bare SDK; each runs in a process of its own.

What they ask is what a run of ours asked: the bodies of its calls, which the loopback has written down.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TURN_S = 6.0  # that Lingo_Chat sleeps between two turns
Body = dict[str, Any]


def distilabel_pipeline(bodies: list[Body], keys: list[str], given: argparse.Namespace) -> None:
    """distilabel's TextGeneration in a Pipeline with our model as its LLM, batches as large as by default."""
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    from lingo_hitl.llm_config import LLMSpec, Quota
    from lingo_hitl.models.gemini import GeminiModel
    from lingo_hitl.models.journal import Journal
    from lingo_hitl.models.session import Session

    rows = [{"instruction": body["contents"][-1]["parts"][0]["text"]} for body in bodies]
    with Pipeline(name="rival") as pipeline:
        quotas = {key: Quota(requests_per_minute=given.a_minute) for key in keys}
        session = Session(Journal(given.journal), quotas=quotas)
        model = GeminiModel(spec=LLMSpec(model="gemini/gemini-2.0-flash", api_key_env=keys), session=session)
        LoadDataFromDicts(data=rows) >> TextGeneration(llm=model)
    pipeline.run(use_cache=False)


def one_thread_a_key(bodies: list[Body], keys: list[str], given: argparse.Namespace) -> None:
    """What Lingo_Chat does: each key has a thread that asks, waits for the reply, and sleeps a fixed time."""
    ends = time.monotonic() + given.seconds

    def work(number: int) -> None:
        ask = _asker(keys[number])
        for body in bodies[number :: len(keys)]:
            if time.monotonic() > ends:
                return
            for _ in range(3):
                try:
                    ask(body)
                    break
                except Exception:  # as it does: whatever went wrong is tried again after the same sleep
                    time.sleep(TURN_S / given.scale)
            time.sleep(TURN_S / given.scale)

    with ThreadPoolExecutor(len(keys)) as threads:
        list(threads.map(work, range(len(keys))))


def bare_sdk(bodies: list[Body], keys: list[str], given: argparse.Namespace) -> None:
    """The SDK alone, one call after the other; CPU seconds a call go to `--out`."""
    ask = _asker(keys[0])
    for body in bodies[:20]:
        ask(body)
    started = time.process_time()
    for body in bodies:
        ask(body)
    given.out.write_text(json.dumps({"cpu": (time.process_time() - started) / len(bodies)}), encoding="utf-8")


def _asker(key: str) -> Any:
    """A function that sends one body with one key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import google.generativeai as genai
        from google.ai import generativelanguage as glm

    place = {"api_key": os.environ[key], "api_endpoint": os.environ["GEMINI_API_ENDPOINT"]}
    client = glm.GenerativeServiceClient(transport="rest", client_options=place)

    def ask(body: Body) -> str:
        config = body["generationConfig"]
        system = body.get("systemInstruction")
        model: Any = genai.GenerativeModel("gemini-2.0-flash", system_instruction=system and system["parts"][0]["text"])
        model._client = client
        reply = model.generate_content(
            [{"role": turn["role"], "parts": [turn["parts"][0]["text"]]} for turn in body["contents"]],
            generation_config={
                "candidate_count": 1,
                "temperature": config["temperature"],
                "top_p": config["topP"],
                "max_output_tokens": config["maxOutputTokens"],
            },
            request_options={"timeout": 120, "retry": None},
        )
        return str(reply.text)

    return ask


def _read(path: Path, most: int) -> Iterator[Body]:
    with path.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(most), strict=False):
            yield json.loads(line)


RIVALS = {rival.__name__: rival for rival in (distilabel_pipeline, one_thread_a_key, bare_sdk)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("bodies", type=Path)
    parser.add_argument("most", type=int, help="bodies that are sent")
    parser.add_argument("keys", nargs="+", help="environment variables with the keys")
    parser.add_argument("--journal", type=Path, help="where our model keeps what it is told")
    parser.add_argument("--a-minute", type=float, default=60.0, help="requests that a key may make")
    parser.add_argument("--scale", type=float, default=1.0, help="how much faster the quotas' time passes")
    parser.add_argument("--seconds", type=float, default=0.0, help="after which no more is asked")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    RIVALS[given.rival](list(_read(given.bodies, given.most)), given.keys, given)


if __name__ == "__main__":
    main()
