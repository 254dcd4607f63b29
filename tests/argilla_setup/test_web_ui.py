"""What a record carries is shown in the web UI and never runs, and the UI still works: in a real browser."""

from __future__ import annotations

import uuid

import httpx
import pytest

from tests.argilla_setup.rest import CHAT, TEXT, Rest, rating

pytestmark = pytest.mark.server

ADVANCED = """
<div id="card"></div>
<script>document.getElementById("card").textContent = "카드: " + record.fields.card.title;</script>
"""
PAYLOADS = (
    "<img src=x onerror=\"top.ran='img'\">",
    "<b>x</b><script>top.ran='script'</script>",
    "<svg onload=\"top.ran='svg'\"></svg>",
    "</script><script>top.ran='break'</script>",
    "<iframe srcdoc=\"<script>top.ran='srcdoc'</script>\"></iframe>",
    "<a href=\"javascript:top.ran='link'\">누르세요</a>",
    "$'<script>top.ran='dollar'</script>$&",
    "<object data=\"data:text/html,<script>top.ran='object'</script>\"></object>",
)


def test_headers(argilla_home):
    rest = Rest(argilla_home)
    url = rest.credentials.url
    for path in ("/", "/sign-in", "/api/v1/version", "/api/v1/me"):
        headers = httpx.get(url + path, trust_env=False).headers
        policy = headers["content-security-policy"]
        assert "script-src-attr 'none'" in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_other_sites_may_not_use_the_api(argilla_home):
    rest = Rest(argilla_home)
    other = {"Origin": "https://other.example"}
    reply = rest.client.get("/api/v1/me", headers=other)
    assert "access-control-allow-origin" not in reply.headers
    asked = {**other, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in rest.client.options("/api/v1/me", headers=asked).headers


@pytest.mark.browser
def test_a_labeler_sees_hostile_records_as_text_and_answers_them(argilla_home, browser):
    owner = Rest(argilla_home)
    name = f"web-{uuid.uuid4().hex[:6]}"
    custom = {"type": "custom", "template": ADVANCED, "advanced_mode": True}
    simple = {"type": "custom", "template": "<p>{{record.fields.card.title}}</p>", "advanced_mode": False}
    dataset = owner.create_dataset(
        name,
        fields={"t": TEXT, "marked": {**TEXT, "use_markdown": True}, "talk": CHAT, "card": custom, "plain": simple},
        questions={"rating": rating()},
    )
    items = [
        {
            "external_id": str(position),
            "fields": {
                "t": payload,
                "marked": payload,
                "talk": [{"role": "user", "content": payload}],
                "card": {"title": payload},
                "plain": {"title": payload},
            },
        }
        for position, payload in enumerate(PAYLOADS)
    ]
    owner.upsert(dataset, items)
    account = owner.credentials.accounts["annotator1"]
    page = browser.new_context(locale="en", viewport={"width": 1400, "height": 1000}).new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{owner.credentials.url}/sign-in")
    page.locator("input[name=Username]").fill(account.username)
    page.locator("input[name=Password]").fill(account.password)
    page.keyboard.press("Enter")
    page.get_by_text(name).first.wait_for()
    page.goto(f"{owner.credentials.url}/dataset/{dataset}/annotation-mode")
    left = set(PAYLOADS)
    while left:
        page.locator("[id^='fields-content']").first.wait_for()
        # A record's text is shown letter by letter in the text field, the chat and both kinds of custom field.
        payload = next(iter(payload for payload in left if _shows(page, payload)), None)
        if payload is None:
            page.wait_for_timeout(100)
            continue
        page.wait_for_timeout(300)
        for link in page.locator("[id^='fields-content'] a").all():
            link.click(force=True, no_wait_after=True)
        assert page.evaluate("window.ran") is None, f"{payload!r} ran"
        left.remove(payload)
        page.locator("label[for=rating_4]").click()
        page.get_by_role("button", name="Submit").first.click()
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran") is None
    done = Rest(argilla_home, "annotator1")("GET", f"/me/datasets/{dataset}/metrics")["responses"]
    assert done["submitted"] == len(PAYLOADS)
    assert {url for url in requested if not url.startswith((owner.credentials.url, "data:", "blob:"))} == set()


def _shows(page, payload):
    fields = [field.text_content() for field in page.locator("[id^='fields-content']").all()]
    try:
        frames = [frame.evaluate("document.body.innerText") for frame in page.frames[1:]]
    except Exception:  # the page is on its way to the next record
        return False
    return len(frames) == 2 and all(payload in text for text in (fields[0], fields[2], *frames))
