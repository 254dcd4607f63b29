from __future__ import annotations

import re

import pyarrow as pa
import pytest

from lingo_hitl.mapping.atlas import write_atlas
from lingo_hitl.records import GENERATED, MAPPED, to_table

ATTACK = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"


def mapped(texts: list[str], *, cluster: str = "행성 · 별") -> pa.Table:
    schema = pa.schema([*GENERATED, *MAPPED])
    rows = [
        {"id": str(i), "task": "instruction", "instruction": text, "x": i % 7, "y": i % 5, "cluster_id": i % 3 - 1}
        | {"cluster": "기타 · other" if i % 3 == 0 else f"{cluster} {i % 3}", "perplexity": 20.0 if i % 2 else None}
        for i, text in enumerate(texts)
    ]
    return to_table(rows, schema)


def test_nothing_in_a_row_becomes_markup(tmp_path):
    path = tmp_path / "atlas.html"
    write_atlas(mapped([ATTACK] * 6, cluster=ATTACK), path, title=ATTACK)
    page = path.read_text(encoding="utf-8")
    assert "<script>window.hacked" not in page
    assert "<img src=x" not in page


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    path = tmp_path / "atlas.html"
    write_atlas(mapped(["행성", "\0 \udc00 별"[:2]]), path, title="지도")
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)


@pytest.mark.parametrize("texts", [[], ["행성"], ["", "   "]], ids=len)
def test_few_rows_are_a_page_too(tmp_path, texts):
    path = tmp_path / "atlas.html"
    write_atlas(mapped(texts), path, title="지도")
    assert f"{len(texts)} rows" in path.read_text(encoding="utf-8")


@pytest.mark.browser
def test_it_opens_in_a_browser_and_shows_texts_as_texts(tmp_path, browser):
    path = tmp_path / "atlas.html"
    write_atlas(mapped([ATTACK, "행성은 왜 둥근가요?", "별"] * 4, cluster=ATTACK), path, title=ATTACK)
    errors, requests = [], []
    page = browser.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelector('#atlas')?.data?.length === 3", timeout=60_000)
    page.wait_for_selector("#atlas .gl-canvas", state="attached")
    page.evaluate("Plotly.Fx.hover('atlas', [{curveNumber: 2, pointNumber: 0}])")
    page.wait_for_timeout(500)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert "<img" in page.inner_text("h1")
    page.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
