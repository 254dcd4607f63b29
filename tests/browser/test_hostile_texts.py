"""Hostile texts in every place of Argilla that carries text: none runs, none calls out, and the pages still work."""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

from argilla_setup import launcher
from tests.argilla_setup.rest import CHAT, TEXT, Rest, labels
from tests.conftest import free_port

pytestmark = [pytest.mark.server, pytest.mark.browser]

OUTSIDE = "//outside.invalid"
RUN = "console.log(/__pwned/);window.__pwned=1"
ENCODED = base64.b64encode(f"<script>{RUN}</script>".encode()).decode()
PAYLOADS = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</textarea></title></template><script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f'<img src=x:x onerror="{RUN}"//',
    f'"><img src=x onerror="{RUN}">',
    f'\'"--><svg/onload="{RUN}">',
    f'<svg onload="{RUN}"></svg>',
    f"<svg><script>{RUN}</script></svg>",
    f'<svg><animate onbegin="{RUN}" attributeName=x dur=1s></svg>',
    f'<svg><use href="data:image/svg+xml,<svg id=x xmlns=http://www.w3.org/2000/svg onload={RUN}></svg>#x"/></svg>',
    f'<svg><a xlink:href="javascript:{RUN}"><text y=20>누르세요</text></a></svg>',
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={RUN}&gt;">',
    f'<math><mi xlink:href="javascript:{RUN}">누르세요</mi></math>',
    f'<noscript><p title="</noscript><img src=x onerror={RUN}>">',
    f'<form><math><mtext></form><form><mglyph><style></math><img src onerror="{RUN}">',
    f'<a href="javascript:{RUN}">누르세요</a>',
    f'<a href="java&#10;script:{RUN}">누르세요</a>',
    f'<a href="data:text/html,<script>{RUN}</script>">누르세요</a>',
    f"[누르세요](javascript:{RUN})",
    f"[누르세요](<java\tscript:{RUN}>)",
    f"[누르세요](data:text/html;base64,{ENCODED})",
    f'![그림](x"onerror="{RUN})',
    f"![그림](https:{OUTSIDE}/image.png)",
    f'<img src="https:{OUTSIDE}/pixel.gif" srcset="https:{OUTSIDE}/2x.gif 2x">',
    f'<picture><source srcset="https:{OUTSIDE}/source.png"><img src=x></picture>',
    f'<video poster="https:{OUTSIDE}/p.png"><source src="https:{OUTSIDE}/v.mp4" onerror="{RUN}"></video>',
    f'<audio src="https:{OUTSIDE}/a.mp3" autoplay onerror="{RUN}"></audio>',
    f'<iframe srcdoc="<script>{RUN}</script>"></iframe>',
    f'<iframe src="javascript:{RUN}"></iframe>',
    f'<iframe src="https:{OUTSIDE}/frame.html"></iframe>',
    f'<object data="data:text/html,<script>{RUN}</script>"></object>',
    f'<embed src="data:text/html,<script>{RUN}</script>">',
    f'<link rel=stylesheet href="https:{OUTSIDE}/s.css">',
    f'<style>@import "https:{OUTSIDE}/i.css"; body{{display:none}}</style>',
    f"가<style>*{{display:none!important;background:url(https:{OUTSIDE}/css.png)}}</style>",
    f'<div style="position:fixed;inset:0;z-index:99999;background:red url(https:{OUTSIDE}/b.png)">덮개</div>',
    f'<meta http-equiv="refresh" content="0;url=https:{OUTSIDE}/refresh">',
    f'<base href="https:{OUTSIDE}/">',
    f'<form action="https:{OUTSIDE}/form"><input name=q autofocus onfocus="{RUN}"><button>보내기</button></form>',
    f'<details open ontoggle="{RUN}"><summary>자세히</summary></details>',
    f'<marquee onstart="{RUN}">글</marquee>',
    f'<input type=image src=x onerror="{RUN}">',
    f'<button popovertarget=p onclick="{RUN}">글</button><div id=p popover onbeforetoggle="{RUN}">글</div>',
    f'<body onload="{RUN}"><p>글',
    '<label for="rating_1">누르세요</label><a id="rating_4" name="body">글</a><img name="getElementById">',
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"{{{{#with 'constructor' as |c|}}}}{{{{c}}}}{{{{/with}}}}{{{{{{raw}}}}}}${{{RUN}}}<%= {RUN} %>",
    f"$'$`$&#TEMPLATE##RECORD_OBJECT#<script>{RUN}</script>",
    f'\\u003cscript>{RUN}\\u003c/script>\\";{RUN}//',
    f"`;{RUN};`\u2028{RUN}//",
    f"<!--<script>{RUN}//--><!-- --!><img src=x onerror={RUN}>",
    f"```html\n<script>{RUN}</script>\n```\n<x onclick={RUN}>",
    f"$\\href{{javascript:{RUN}}}{{x}}$ $$\\includegraphics{{https:{OUTSIDE}/k.png}}$$ $\\htmlData{{x={RUN}}}{{x}}$",
)
SIGN = "끝까지 보임"
"""A message after the payload's own: whatever a payload does to its own place, the rest of the page must be there."""

RATING = {"type": "rating", "options": [{"value": value} for value in range(1, 6)]}
SIMPLE = "<p id='as-text'>{{record.fields.simple.title}}</p>{{json record}}"
AS_HTML = "<div>{{{record.fields.as_html.title}}}</div>"
ADVANCED = """<div id="as-text"></div><script>
document.getElementById("as-text").textContent = record.fields.advanced.title;
</script>"""
ADVANCED_AS_HTML = """<div id="as-html"></div><script>
document.getElementById("as-html").innerHTML = record.fields.advanced_html.title;
</script>"""


def custom(template, *, advanced=False):
    return {"type": "custom", "template": template, "advanced_mode": advanced}


@pytest.fixture(scope="module")
def home():
    """A server of this module's own, for it gets hostile users and workspaces."""
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    launcher.up(folder / "home", port=free_port(), say=lambda line: None)
    yield folder / "home"
    launcher.remove(folder / "home")
    shutil.rmtree(folder, ignore_errors=True)


class Watched:
    """A page on which nothing hostile may happen."""

    def __init__(self, browser, url):
        self.url = url
        self.context = browser.new_context(locale="en", viewport={"width": 1500, "height": 1100})
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.faults, self.outside = [], []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.context.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        # Of every frame and tab: a script that runs anywhere says so.
        self.context.on("console", self._hear)
        self.context.on("request", self._note)

    def _note(self, request):
        if not request.url.startswith((self.url, "data:", "blob:", "about:")):
            self.outside.append(request)

    def sign_in(self, username, password):
        self.page.goto(f"{self.url}/sign-in")
        self.page.locator("input[name=Username]").fill(username)
        self.page.locator("input[name=Password]").fill(password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "sign-in" not in url)

    def goto(self, path):
        self.page.goto(f"{self.url}{path}")

    def _hear(self, message):
        # A script's own words; the browser's complaints about one that it refused quote it.
        if message.text == "/__pwned/":
            self.faults.append(f"a script ran in {message.location['url']}")

    def click_links(self, within):
        """Follow every link, as a labeler would, and close the tabs that open."""
        for link in self.page.locator(f"{within} a, {within} mi, {within} summary").all():
            link.click(force=True, no_wait_after=True)
        for other in self.context.pages[1:]:
            other.close()

    def check(self, where):
        assert self.page.url.startswith(self.url), f"{where} left the page for {self.page.url}"
        assert self.page.evaluate("window.__pwned") is None, f"{where} ran"
        assert self.faults == [], where
        left = [request.url for request in self.outside if request.failure != "csp"]
        assert left == [], f"{where} called out"


@pytest.fixture
def watched(browser, home):
    watched = Watched(browser, launcher.credentials(home).url)
    yield watched
    watched.goto("/sign-in")
    assert watched.faults == []
    watched.page.evaluate(RUN)
    assert watched.faults, "a script that runs would not have been heard"
    watched.context.close()


def test_records(home, watched):
    """Each payload in every kind of field, in suggestions, agents and metadata, as a labeler meets them."""
    owner = Rest(home)
    fields = {
        "text": TEXT,
        "marked": {**TEXT, "use_markdown": True},
        "spans": TEXT,
        "talk": CHAT,
        "marked_talk": {**CHAT, "use_markdown": True},
        "simple": custom(SIMPLE),
        "as_html": custom(AS_HTML),
        "advanced": custom(ADVANCED, advanced=True),
        "advanced_html": custom(ADVANCED_AS_HTML, advanced=True),
    }
    questions = {
        "rating": RATING,
        "comment": {"type": "text", "use_markdown": False},
        "marked_comment": {"type": "text", "use_markdown": True},
        "span": {"type": "span", "field": "spans", "allow_overlapping": True, "options": labels("a", "b")["options"]},
    }
    dataset = owner.create_dataset("hostile-records", fields=fields, questions=questions, metadata={"source": "terms"})
    ids = owner.questions(dataset)
    owner.upsert(dataset, [record(position, payload, ids) for position, payload in enumerate(PAYLOADS)])
    account = owner.credentials.accounts["annotator1"]
    watched.sign_in(account.username, account.password)
    watched.goto(f"/dataset/{dataset}/annotation-mode")
    left = dict(enumerate(PAYLOADS))
    while left:
        position = shown(watched.page, left)
        payload = left.pop(position)
        watched.page.wait_for_timeout(150)
        assert SIGN in watched.page.locator("[id^='fields-content-']").nth(4).inner_text(), f"{payload!r} hid a text"
        watched.click_links("[id^='fields-content-']")
        watched.check(f"the record {payload!r}")
        submit(watched.page)
    watched.page.wait_for_timeout(300)
    watched.check("the end of the queue")
    given = [item["responses"] for item in owner("GET", f"/datasets/{dataset}/records", params=SUBMITTED)["items"]]
    assert [[answer["values"]["rating"]["value"] for answer in answers] for answers in given] == [[4]] * len(PAYLOADS)


SUBMITTED = {"include": "responses", "limit": 1000}


def record(position, payload, ids):
    card = {"title": payload}
    agent = f"onerror:top.__pwned/{position}"  # as much as Argilla lets an agent's name be
    return {
        "external_id": str(position),
        "fields": {
            "text": payload,
            "marked": payload,
            "spans": payload,
            "talk": [{"role": "user", "content": payload}, {"role": payload[:20], "content": "답"}],
            "marked_talk": [{"role": "user", "content": payload}, {"role": "assistant", "content": SIGN}],
            **dict.fromkeys(("simple", "as_html", "advanced", "advanced_html"), card),
        },
        "metadata": {"source": payload},
        "suggestions": [
            {"question_id": ids["comment"], "value": payload, "agent": agent, "score": 0.5},
            {"question_id": ids["marked_comment"], "value": payload, "agent": agent, "score": 0.5},
            {"question_id": ids["rating"], "value": 2, "agent": agent, "score": 0.5},
        ],
    }


def shown(page, left):
    """Which of the payloads `left` stands, to the letter, in each field that shows a text as it is."""
    for _attempt in range(150):
        page.locator("[id^='fields-content-']").first.wait_for()
        areas = page.locator("[id^='fields-content-']").all_text_contents()
        frames = [in_frame(page, number) for number in (0, 2)]
        for position, payload in left.items():
            # Text, spans and chat (but for the two with markdown), a simple and an advanced custom field.
            as_text = [*areas[0:1], *areas[2:4]]
            if len(areas) == 5 and frames == [payload, payload] and all(payload in text for text in as_text):
                return position
        page.wait_for_timeout(100)
    raise AssertionError(f"no payload is shown in full: {frames} {areas[0]} {areas[2:4]}")


def submit(page):
    """Rate 4 and submit, and see it counted."""
    counter = page.locator(".my-progress__status", has_text="submitted").locator(".status-counter__counter")
    before = int(counter.inner_text())
    page.locator("label[for=rating_4]").click()
    page.locator("label[for=rating_4].label-active").wait_for()
    page.get_by_role("button", name="Submit").first.click()
    expect(counter).to_have_text(str(before + 1), timeout=30_000)


def in_frame(page, number):
    """What the custom field shows as text."""
    try:
        return page.locator("iframe").nth(number).content_frame.locator("#as-text").text_content(timeout=2000)
    except Error:  # on its way to the next record
        return ""


def test_settings(home, watched):
    """Each payload in the guidelines, titles, descriptions and options of one dataset, as owner and labeler see it."""
    owner = Rest(home)
    numbered = list(enumerate(PAYLOADS))
    options = [{"value": f"v{number}", "text": payload} for number, payload in numbered]
    guidelines = "\n\n".join([SIGN, *PAYLOADS])
    dataset = owner.create_draft("hostile-settings", guidelines=guidelines)
    for number, payload in numbered:
        body = {"name": f"f{number}", "title": payload, "required": number == 0, "settings": TEXT}
        owner("POST", f"/datasets/{dataset}/fields", json=body)
        body = {"name": f"m{number}", "title": payload, "settings": {"type": "terms"}, "visible_for_annotators": True}
        owner("POST", f"/datasets/{dataset}/metadata-properties", json=body)
        question = {"title": payload, "description": payload, "required": False}
        settings = {"type": "text", "use_markdown": False}
        owner("POST", f"/datasets/{dataset}/questions", json={"name": f"q{number}", "settings": settings, **question})
    for kind, more in (
        ("label_selection", {"visible_options": None}),
        ("multi_label_selection", {"visible_options": None, "options_order": "natural"}),
        ("ranking", {}),
        ("span", {"field": "f0", "allow_overlapping": True}),
    ):
        settings = {"type": kind, "options": options[:50] if kind == "ranking" else options, **more}
        body = {"name": kind, "title": kind, "required": kind == "label_selection", "settings": settings}
        owner("POST", f"/datasets/{dataset}/questions", json=body)
    owner("POST", f"/datasets/{dataset}/vectors-settings", json={"name": "v", "title": PAYLOADS[4], "dimensions": 2})
    owner("PUT", f"/datasets/{dataset}/publish")
    values = {f"m{number}": payload for number, payload in numbered}
    items = [
        {"external_id": str(number), "fields": {"f0": "글", "f1": "다른 글"}, "metadata": values} for number in range(3)
    ]
    owner.upsert(dataset, items)

    page = watched.page
    watched.sign_in("owner", owner.credentials.accounts["owner"].password)
    watched.goto(f"/dataset/{dataset}/annotation-mode")
    page.get_by_text("Filters").first.wait_for()
    for payload in PAYLOADS:
        assert page.locator("label", has_text=payload).count(), f"no option shows {payload!r}"
        assert page.locator("[aria-label]", has_text=payload).count(), f"no question shows {payload!r}"
    page.get_by_text("GUIDELINES").first.click()
    page.get_by_text(SIGN).first.wait_for()
    watched.click_links(".markdown-render")
    watched.check("the guidelines")
    for icon in page.locator(".icon-info").all()[::9]:
        icon.click()
        page.locator(".fixed-tooltip").first.wait_for()
        icon.click()
    watched.check("descriptions")
    page.get_by_text("Filters").first.click()
    for part in ("Metadata", "Responses", "Sort"):
        page.get_by_text(part, exact=True).first.click()
        page.wait_for_timeout(300)
        watched.check(part)
    page.reload()
    page.get_by_text("Filters").first.wait_for()
    page.locator("label[for^=label_selection_]").first.click()
    page.get_by_role("button", name="Submit").first.click()
    expect(page.locator(".status-counter__counter").first).not_to_have_text("0")
    watched.goto(f"/dataset/{dataset}/settings")
    for tab in ("Fields", "Questions", "Metadata", "Vectors", "General"):
        page.locator(".tab__button", has_text=tab).click()
        page.wait_for_timeout(300)
        watched.check(f"settings: {tab}")
    page.get_by_text("Preview").first.click()
    page.get_by_text(SIGN).first.wait_for()
    watched.click_links(".markdown-render")
    watched.check("the guidelines' preview")


TEN = 10
"""Of so many users who answered in a dataset, all names are shown."""


def test_names(home, watched):
    """Each payload as the name of a dataset, a workspace and a user, first name and last."""
    owner = Rest(home)
    page = watched.page
    answered, answers = [], []
    for number in range(0, len(PAYLOADS), TEN):
        dataset = owner.create_dataset(
            f"답{number}", fields={"t": TEXT}, questions={"rating": RATING}, min_submitted=99
        )
        answered.append(owner.upsert(dataset, [{"external_id": "1", "fields": {"t": "글"}}])[0])
    lingo, password = owner.workspace_id(), "가나다라마바사아"
    datasets, users = {}, {}
    for number, payload in enumerate(PAYLOADS):
        workspace = owner("POST", "/workspaces", json={"name": payload})["id"]
        datasets[payload] = owner.create_dataset(
            payload[:200], workspace=workspace, fields={"t": TEXT}, questions={"rating": RATING}
        )
        names = {"username": payload, "first_name": payload, "last_name": payload}
        users[payload] = owner("POST", "/users", json={**names, "password": password})
        member = {"user_id": users[PAYLOADS[0]]["id"]}
        owner("POST", f"/workspaces/{workspace}/users", json=member)
        owner("POST", f"/workspaces/{lingo}/users", json={"user_id": users[payload]["id"]})
        body = {"values": {"rating": {"value": 3}}, "status": "submitted"}
        key = {"X-Argilla-Api-Key": users[payload]["api_key"]}
        answers.append((f"/records/{answered[number // TEN]['id']}/responses", body, key))
    # Last, for the list of datasets begins with those that were worked on last.
    for path, body, key in answers:
        owner("POST", path, json=body, headers=key)

    watched.sign_in(PAYLOADS[0], password)
    groups = page.locator(".dataset-users__button")
    expect(groups).to_have_count(len(answered), timeout=30_000)
    for group in groups.all():
        group.dispatch_event("mouseenter")
    expect(page.locator(".dataset-users__rest")).to_have_count(len(answered))
    names = page.locator(".dataset-users__rest .tooltip__text").all_text_contents()
    assert sorted(names) == sorted(PAYLOADS), "the users who answered"
    shows_all(page, "datasets and workspaces")
    watched.check("the users who answered")
    page.get_by_text("Workspaces", exact=True).first.click()
    page.wait_for_timeout(500)
    watched.check("the workspaces to choose from")
    watched.goto("/user-settings")
    page.get_by_text("Workspaces").first.wait_for()
    shows_all(page, "the user's workspaces")
    watched.check("the user's own page")
    watched.goto(f"/dataset/{dataset}/annotation-mode")
    page.locator("[id^='fields-content-']").first.wait_for()
    watched.check("the user's initials")

    watched.context.clear_cookies()
    page.evaluate("localStorage.clear()")
    watched.sign_in("owner", owner.credentials.accounts["owner"].password)
    for payload in PAYLOADS[::6]:
        watched.goto(f"/dataset/{datasets[payload]}/settings")
        page.locator(".tab__button", has_text="Danger zone").click()
        page.locator(".dataset-delete .button, .dataset-delete button").first.click()
        page.get_by_text("You are about to delete").first.wait_for()
        assert payload[:200] in page.get_by_text("You are about to delete").first.text_content()
        watched.check(f"the question whether to delete {payload!r}")
    page.locator(".modal-buttons button", has_text="Yes").first.click()
    page.locator(".toast-text").wait_for()
    watched.check("the message that it is deleted")


def shows_all(page, where):
    """Every payload stands on the page as it is, but for white space, which HTML folds. Lists show what is in view."""
    missing = set(PAYLOADS)
    page.mouse.move(400, 600)
    for _step in range(80):
        text = "".join(page.locator("body").text_content().split())
        missing = {payload for payload in missing if "".join(payload.split()) not in text}
        if not missing:
            page.mouse.wheel(0, -100_000)
            return
        page.mouse.wheel(0, 450)
        page.wait_for_timeout(100)
    raise AssertionError(f"{where}: not shown are {missing}")
