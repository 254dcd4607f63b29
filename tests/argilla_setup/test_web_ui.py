"""The web UI after its corrections: what people use of it works, and another Argilla's is refused.

What hostile texts may not do in it is in tests/browser/test_hostile_texts.py.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from argilla_setup import environment, launcher
from argilla_setup.security.attempts import PAIR
from tests.argilla_setup.rest import TEXT, Rest, rating

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
SIMPLE = f"""<style>.big {{ font-size: 30px }}</style><h1 class="big">{{{{record.fields.card.title}}}}</h1>
{{{{#each record.fields.card.tags}}}}<li>{{{{this}}}}</li>{{{{/each}}}}{{{{json record.fields.card}}}}
<img id="dot" src="{DOT}"><p id="cost">값은 $' 와 $&, 그리고 #TEMPLATE#</p>"""
ADVANCED = """<button id="more">더 보기</button><ol id="lines"></ol><pre id="reached"></pre><script>
const lines = document.getElementById("lines");
function line(text) { const item = document.createElement("li"); item.textContent = text; lines.append(item); }
line(record.fields.deck.title);
document.getElementById("more").addEventListener("click", () => { for (let n = 0; n < 40; n++) line("줄 " + n); });
const reached = [];
for (const [what, reach] of Object.entries({
  token: () => parent.localStorage.length, page: () => parent.document.title, top: () => top.location.href,
  cookie: () => document.cookie, storage: () => localStorage.length,
})) { try { reach(); reached.push(what); } catch (error) {} }
fetch("/api/v1/version").then(() => reached.push("api"), () => {}).finally(() => {
  document.getElementById("reached").textContent = "reached: " + reached.join(" ");
});
</script>"""
MARKDOWN = f"""# 제목

| 가 | 나 |
|----|----|
| 1 | 2 |

- [x] 한 일
- [ ] 할 일

<span id="colour" style="color: rgb(255, 0, 0)">빨강</span> $x^2$ ![점]({DOT}) [길](https://example.org/)

```python
print("안녕")
```
"""


@pytest.fixture
def page(browser, argilla_home):
    url = launcher.credentials(argilla_home).url
    context = browser.new_context(locale="en", viewport={"width": 1400, "height": 1000}, base_url=url)
    page = context.new_page()
    requested = []
    context.on("request", lambda request: requested.append(request.url))
    yield page
    assert [asked for asked in requested if not asked.startswith((url, "data:", "blob:"))] == []
    context.close()


def sign_in(page, username, password):
    page.goto("/sign-in")
    page.locator("input[name=Username]").fill(username)
    page.locator("input[name=Password]").fill(password)
    page.keyboard.press("Enter")


def opened(page, home, fields, record):
    """The page of a new dataset with one record, as annotator1 sees it."""
    owner = Rest(home)
    dataset = owner.create_dataset(f"web-{uuid.uuid4().hex[:6]}", fields=fields, questions={"rating": rating()})
    owner.upsert(dataset, [{"external_id": "1", "fields": record}])
    account = owner.credentials.accounts["annotator1"]
    sign_in(page, account.username, account.password)
    page.get_by_text("Your datasets").wait_for()
    page.goto(f"/dataset/{dataset}/annotation-mode")
    return page


@pytest.mark.browser
def test_custom_fields_work_and_reach_nothing(argilla_home, page):
    fields = {
        "card": {"type": "custom", "template": SIMPLE, "advanced_mode": False},
        "deck": {"type": "custom", "template": ADVANCED, "advanced_mode": True},
    }
    record = {"card": {"title": "카드 <b>", "tags": ["하나", "둘"]}, "deck": {"title": "덱 <b>"}}
    opened(page, argilla_home, fields, record)
    simple, advanced = (page.locator("iframe").nth(number) for number in (0, 1))
    inside = simple.content_frame
    expect(inside.locator("h1")).to_have_text("카드 <b>")
    expect(inside.locator("h1")).to_have_css("font-size", "30px")
    expect(inside.locator("li")).to_have_text(["하나", "둘"])
    expect(inside.locator("pre")).to_contain_text('"title": "카드 <b>"')
    expect(inside.locator("#cost")).to_have_text("값은 $' 와 $&, 그리고 #TEMPLATE#")
    assert inside.locator("#dot").evaluate("image => image.complete && image.naturalWidth") == 1
    # The frame looks as the page around it does, and is as high as what it shows.
    background = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--bg-field')").strip()
    assert background
    assert (
        inside.locator("html").evaluate("e => getComputedStyle(e).getPropertyValue('--bg-field')").strip() == background
    )
    inside = advanced.content_frame
    expect(inside.locator("li")).to_have_text(["덱 <b>"])
    low = advanced.bounding_box()["height"]
    inside.locator("#more").click()
    expect(inside.locator("li")).to_have_count(41)
    for _attempt in range(50):
        if advanced.bounding_box()["height"] > low + 400:
            break
        page.wait_for_timeout(100)
    assert advanced.bounding_box()["height"] > low + 400, "the frame grows with what it shows"
    expect(inside.locator("#reached")).to_have_text("reached: ")


@pytest.mark.browser
def test_markdown_works(argilla_home, page):
    opened(page, argilla_home, {"t": {**TEXT, "use_markdown": True}}, {"t": MARKDOWN})
    field = page.locator(".markdown-render").first
    expect(field.locator("h1")).to_have_text("제목")
    expect(field.locator("td")).to_have_text(["1", "2"])
    expect(field.locator("input[type=checkbox]:disabled")).to_have_count(2)
    expect(field.locator("input:checked")).to_have_count(1)
    expect(field.locator("span", has_text="빨강").last).to_have_css("color", "rgb(255, 0, 0)")
    expect(field.locator(".katex")).to_have_count(1)
    expect(field.locator("code.hljs, pre code")).to_contain_text("안녕")
    assert field.locator("img").evaluate("image => image.complete && image.naturalWidth") == 1
    link = field.locator("a", has_text="길")
    expect(link).to_have_attribute("href", "https://example.org/")
    expect(link).to_have_attribute("target", "_blank")


@pytest.mark.browser
def test_too_many_wrong_passwords_are_told(argilla_home, page):
    url = launcher.credentials(argilla_home).url
    for _ in range(PAIR.failures):
        form = {"username": "web-nobody", "password": "wrong-password"}
        assert httpx.post(f"{url}/api/v1/token", data=form, trust_env=False).status_code == 401
    sign_in(page, "web-nobody", "wrong-password")
    for place in (".toast-text", ".form__error"):
        expect(page.locator(place)).to_contain_text("분 뒤에 다시 시도하세요")
    # Nobody else waits, and a browser that has signed in is known there from then on.
    account = launcher.credentials(argilla_home).accounts["annotator1"]
    sign_in(page, account.username, account.password)
    page.get_by_text("Your datasets").wait_for()
    assert [cookie["name"] for cookie in page.context.cookies() if cookie["httpOnly"]] == ["lingo-hitl-browser"]


def test_another_argilla_is_refused(tmp_path):
    """The patches are for one version, and for the bundle that it was released with, to the letter."""
    python = environment.python_of(environment.location())
    folder = next(environment.location().glob("lib/python3*/site-packages/argilla_server/static"))
    copy = tmp_path / "static"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.br", "*.gz"))

    def harden(version, place):
        program = "import sys, pathlib\nfrom argilla_setup.security import web_ui\n"
        program += "print(len(web_ui.harden_files(pathlib.Path(sys.argv[2]), sys.argv[1])))"
        command = [python, "-c", program, version, str(place)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "corrections to its web UI are for 2.8.0" in harden("2.8.1", copy).stderr
    changed = tmp_path / "changed"
    shutil.copytree(copy, changed)
    file = next(file for file in changed.glob("_nuxt/*.js") if "this.sdkRecord" in file.read_text(encoding="utf-8"))
    file.write_text(file.read_text(encoding="utf-8").replace("this.sdkRecord", "this.record"), encoding="utf-8")
    assert "is not the one that was released" in harden("2.8.0", changed).stderr
    added = tmp_path / "added"
    shutil.copytree(copy, added)
    next(added.glob("_nuxt/*.js")).write_text("e('p',{domProps:{innerHTML:t._s(t.fresh)}})", encoding="utf-8")
    assert "WebUiMismatchError" in harden("2.8.0", added).stderr
    assert harden("2.8.0", copy).stdout.strip().isdigit()
