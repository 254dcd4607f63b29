"""The page about a sample: it opens without a network, shows its pictures, and shows every text to the letter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.koquality import select
from lingo_hitl.curation.measures import measure
from lingo_hitl.curation.report import write_report, write_sweep
from lingo_hitl.curation.sweep import sweep
from tests.curation.pools import pool_of

ATTACK = "<b>굵게</b></script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>{{ 7*7 }}"
KOREAN = "행성은 왜 둥근가요?"
FIGURES = ["length", "perplexity", "coverage", "sources", "quotas", "map"]


def rows_of(count, **more):
    chance = np.random.default_rng(1)
    return [
        {
            "id": f"{n:05}",
            "text": f"{(ATTACK, KOREAN, '별')[n % 3]} {n}",
            "vector": chance.normal(size=5),
            "perplexity": float(chance.lognormal(4, 2)),
            **more,
        }
        for n in range(count)
    ]


def written(tmp_path, rows, *, sources=None, **more):
    pool = pool_of(rows)
    config = KoQualityConfig(length_groups=3, clusters=4, ratio=more.pop("ratio", 0.3), sampling="ppl")
    selection = select(pool, config)
    names = pa.array(sources, pa.string()) if sources is not None else None
    measures = measure(pool, selection, names, seed=1)
    path = tmp_path / "report.html"
    write_report(path, title=ATTACK, pool=pool, selection=selection, measures=measures, sources=names, **more)
    return path


@pytest.fixture
def opened(browser):
    """Opens a page; gives it with what its console and its network saw."""
    pages = []

    def open_(path):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        pages.append(page)
        page.seen = []
        page.on("pageerror", lambda error: page.seen.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.seen.append(said.text))
        page.on("request", lambda request: request.url.startswith(("data:", "blob:")) or page.seen.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("[...document.querySelectorAll('.plotly-graph-div')].every(d => d.data)", timeout=60_000)
        page.wait_for_timeout(300)
        return page

    yield open_
    for page in pages:
        page.close()


@pytest.mark.browser
def test_a_report_opens_and_shows_texts_as_texts(tmp_path, opened):
    rows = [{**row, "text": f"{ATTACK} {KOREAN} {n}"} for n, row in enumerate(rows_of(120))]
    path = written(
        tmp_path,
        rows,
        sources=[(ATTACK, "국어")[n % 2] for n in range(120)],
        outputs=pa.array([f"{ATTACK} 답 {n}" for n in range(120)]),
        dropped={f"empty {ATTACK}": 7, "another language": 2},
        seconds={"perplexity": 1.5},
        settings={"ratio": 0.3, "encoder": ATTACK},
    )
    page = opened(path)
    assert page.seen == [path.as_uri()]  # nothing else was asked for, and nothing complained
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, link').length") == 0
    assert page.inner_text("h1") == ATTACK

    assert page.evaluate("[...document.querySelectorAll('.plotly-graph-div')].map(d => d.id)") == FIGURES
    for name in FIGURES:
        assert page.evaluate(f"document.querySelector('#{name} .main-svg').clientHeight") > 100
    assert page.evaluate("document.querySelectorAll('#map canvas').length") > 0
    page.locator("#map").scroll_into_view_if_needed()
    spot = page.evaluate(
        "(() => { const d = document.querySelector('#map'), box = d.getBoundingClientRect(), l = d._fullLayout;"
        "const {x, y} = d._fullData[1];"
        "return [box.x + l._size.l + l.xaxis.d2p(x[0]), box.y + l._size.t + l.yaxis.d2p(y[0])]; })()"
    )
    page.mouse.move(*spot)
    page.wait_for_selector("#map .hovertext text", state="attached")
    assert page.text_content("#map .hovertext").startswith(ATTACK[:30])
    assert page.evaluate("window.hacked") is None

    facts = page.inner_text(".facts")
    assert "129" in facts and "36" in facts and f"most often: empty {ATTACK[:50]}" in facts
    assert "9 dropped before sampling" in facts
    examples = page.inner_text("#examples")
    assert f"{ATTACK} {KOREAN} " in examples and f"{ATTACK} 답 " in examples
    reasons = page.inner_text("#reasons")
    assert f"empty {ATTACK} (before sampling)" in reasons and "another language" in reasons
    # ticks of a picture are SVG texts, and those of sources are what people named them
    ticks = page.evaluate("[...document.querySelectorAll('#sources .ytick')].map(t => t.textContent)")
    assert "국어" in ticks and any(tick.startswith("<b>굵게</b></script>") for tick in ticks)


@pytest.mark.browser
def test_what_the_pictures_draw_is_what_the_rows_are(tmp_path, opened):
    rows = [
        {"id": f"{n:03}", "text": "글" * (n % 10 + 1), "vector": [1, n], "perplexity": 10.0 ** (n % 4)}
        for n in range(200)
    ]
    page = opened(written(tmp_path, rows, ratio=0.5))
    drawn = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.plotly-graph-div')].map(d => "
        "[d.id, d.calcdata.map(t => t.map(p => [p.x, p.y ?? p.s]))]))"
    )
    bars = drawn["length"][0]
    assert [x for x, _ in bars] == list(range(1, 11)) and all(y == pytest.approx(0.1) for _, y in bars)
    shares = [y for _, y in drawn["perplexity"][0] if y]
    assert shares == [pytest.approx(0.25)] * 4
    assert len(drawn["perplexity"][2]) == 100  # a tick for each sampled row
    z = page.evaluate("document.querySelector('#quotas').data.map(t => t.z.flat().reduce((a, b) => a + b))")
    assert z == [200, 100]
    assert page.evaluate("document.querySelector('#map').data.map(t => t.text.length)") == [100, 100]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("rows", "ratio", "gone"),
    [
        (rows_of(1), 1.0, []),
        (rows_of(3), 0.1, ["coverage"]),  # round(0.1 x 3) is no row
        (rows_of(40, perplexity=None), 0.3, ["perplexity"]),
        (rows_of(40, vector=None), 0.3, ["coverage", "map"]),
        (rows_of(40, vector=[0.0, 0.0]), 0.3, []),
        (rows_of(40, perplexity=1.0), 0.3, []),
        ([], 0.3, ["length", "perplexity", "coverage", "quotas", "map"]),
    ],
    ids=["one row", "none selected", "no perplexity", "no vectors", "equal vectors", "equal perplexities", "no rows"],
)
def test_what_is_not_there_is_left_out(tmp_path, opened, rows, ratio, gone):
    path = written(tmp_path, rows, ratio=ratio, sources=["하나"] * len(rows) if rows else None)
    page = opened(path)
    assert page.seen == [path.as_uri()]
    shown = page.evaluate("[...document.querySelectorAll('.plotly-graph-div')].map(d => d.id)")
    assert shown == [name for name in FIGURES if name not in gone and (rows or name != "sources")]
    assert f"{len(rows)}" in page.inner_text(".facts")


@pytest.mark.browser
def test_a_sweep_is_shown_in_pictures_and_a_table_that_can_be_sorted(tmp_path, opened):
    pool = pool_of(rows_of(90))
    table = sweep(
        pool,
        KoQualityConfig(method="exact"),
        length_groups=[1, 3],
        clusters=[4, 40],
        ratios=[0.1, 0.5],
        samplings=["ppl", "rand"],
        sources=pa.array([ATTACK, "국어"] * 45),
    )
    path = tmp_path / "sweep.html"
    write_sweep(path, table, title=ATTACK)
    page = opened(path)
    assert page.seen == [path.as_uri()]
    assert page.inner_text("h1") == ATTACK and page.evaluate("window.hacked") is None
    for name in ("coverage_mean", "gain", "alike", "length_ks", "perplexity_ks", "source_distance"):
        assert page.evaluate(f"document.querySelector('#{name} .main-svg').clientHeight") > 100
    lines = page.evaluate("document.querySelector('#coverage_mean').data.map(t => t.name)")
    assert lines[-1] == "random sample" and "3 groups, 4 clusters, ppl" in lines and len(lines) == 7

    cells = page.evaluate("[...document.querySelectorAll('#combinations tbody tr')].map(r => r.innerText)")
    assert len(cells) == 16 and sum("fewer than the 40 clusters" in cell for cell in cells) == 4
    column = page.evaluate("[...document.querySelectorAll('#combinations th')].findIndex(h => h.textContent == 'Rows')")
    for sorted_ in (sorted, lambda values: sorted(values, reverse=True)):
        page.click(f"#combinations th >> nth={column}")
        values = page.evaluate(
            "[...document.querySelectorAll('#combinations tbody tr')].filter(r => r.cells.length > 6)"
            f".map(r => Number(r.cells[{column}].dataset.value))"
        )
        assert values == sorted_(values) and len(set(values)) > 2
    last = page.inner_text("#combinations tbody tr:last-child")
    assert "fewer than the 40 clusters" in last  # what has no value comes last in either direction


@pytest.mark.model
def test_a_large_corpus_makes_a_small_page(tmp_path):
    chance = np.random.default_rng(0)
    texts = [KOREAN * int(chance.integers(1, 12)) for _ in range(30_000)]
    path = written(
        tmp_path,
        [
            {"id": f"{n:06}", "text": text, "perplexity": 2.0 + n, "vector": [n % 7, n % 11]}
            for n, text in enumerate(texts)
        ],
        ratio=0.2,
    )
    assert path.stat().st_size < 20e6
