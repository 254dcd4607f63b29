"""Hostile texts in every place of Argilla that carries text: none runs, none calls out, and the pages still work."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing, suppress
from secrets import token_hex
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Error, expect

from argilla_setup import launcher
from tests.argilla_setup.rest import CHAT, TEXT, Rest, labels
from tests.conftest import running_home

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
SWALLOWS = ("<!--", "<noscript>", "<math><mtext><table>", "<form><math>", "'\"--><", "<img src=x:x", "<body")
"""How those begin that keep what follows them from being read: each is the last of its page."""
PAGES = 5
_ordered = sorted(PAYLOADS, key=lambda payload: payload.startswith(SWALLOWS))
GROUPS = tuple(_ordered[number::PAGES] for number in range(PAGES))
"""The payloads, some on each page: a page takes seconds."""
FEW = 6
"""Of a group, where each payload needs a question of its own; thirty in all."""
SIGN = "끝까지 보임"
"""A message after the payload's own: whatever a payload does to its own place, the rest of the page must be there."""

RATING = {"type": "rating", "options": [{"value": value} for value in range(1, 6)]}
SIMPLE = "{{#each record.fields.simple.titles}}<p class='as-text'>{{this}}</p>{{/each}}{{json record}}"
AS_HTML = "{{#each record.fields.as_html.titles}}<div>{{{this}}}</div>{{/each}}"
ADVANCED = """<script>
for (const title of record.fields.advanced.titles) {
  const shown = document.createElement("p");
  shown.className = "as-text";
  shown.textContent = title;
  document.body.append(shown);
}
</script>"""
ADVANCED_AS_HTML = """<script>
for (const title of record.fields.advanced_html.titles) {
  const shown = document.createElement("div");
  document.body.append(shown);
  shown.innerHTML = title;
}
</script>"""


def custom(template, *, advanced=False):
    return {"type": "custom", "template": template, "advanced_mode": advanced}


@pytest.fixture(scope="module")
def home():
    """A server of this module's own, for it gets hostile users and workspaces."""
    with running_home() as home:
        yield home


CLICK = """(body, within) => {
  const tags = ["a", "mi", "summary", "form button", "[popovertarget]", "input", "x", "label"];
  for (const element of body.querySelectorAll(tags.map(tag => `${within} ${tag}`).join()))
    element.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
}"""


class Watched:
    """A page on which nothing hostile may happen."""

    def __init__(self, browser, url):
        self.url = url
        self.context = browser.new_context(locale="en", viewport={"width": 1500, "height": 1100})
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.faults, self.outside = [], []
        self.page.on("pageerror", self._fail)
        self.context.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        # Of every frame and tab: a script that runs anywhere says so.
        self.context.on("console", self._hear)
        self.context.on("request", self._note)

    def _fail(self, error):
        # Markdown has a link that copies its code: clicked with all others, but not by a hand.
        if "'Clipboard'" not in str(error):
            self.faults.append(str(error))

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

    def click_all(self, within):
        """Follow every link and press every button there, and in the frames, and close the tabs that open."""
        self.page.locator("body").evaluate(CLICK, within)
        for number in range(self.page.locator("iframe").count()):
            # Not where a link has just led it away.
            with suppress(Error):
                self.page.locator("iframe").nth(number).content_frame.locator("body").evaluate(CLICK, "", timeout=2000)
        self.page.wait_for_timeout(200)
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
    text, marked = TEXT, {**TEXT, "use_markdown": True}
    fields = {f"text{number}": text for number in range(len(GROUPS[0]))}
    fields |= {f"marked{number}": marked for number in range(len(GROUPS[0]))}
    fields |= {f"spans{number}": text for number in range(FEW)}
    fields |= {"talk": CHAT, "marked_talk": {**CHAT, "use_markdown": True}}
    fields |= {"simple": custom(SIMPLE), "as_html": custom(AS_HTML)}
    fields |= {"advanced": custom(ADVANCED, advanced=True), "advanced_html": custom(ADVANCED_AS_HTML, advanced=True)}
    fields |= {f"image{number}": {"type": "image"} for number in range(FEW)}
    questions = {"rating": RATING}
    for number in range(FEW):
        questions[f"comment{number}"] = {"type": "text", "use_markdown": False}
        questions[f"marked_comment{number}"] = {"type": "text", "use_markdown": True}
        options = labels("a", "b")["options"]
        span = {"type": "span", "field": f"spans{number}", "allow_overlapping": True, "options": options}
        questions[f"span{number}"] = span
    metadata = {f"source{number}": "terms" for number in range(FEW)}
    dataset = owner.create_dataset(
        f"hostile-records-{token_hex(3)}", fields=fields, questions=questions, metadata=metadata
    )
    ids = owner.questions(dataset)
    owner.upsert(dataset, [record(position, group, ids) for position, group in enumerate(GROUPS)])
    account = owner.credentials.accounts["annotator1"]
    watched.sign_in(account.username, account.password)
    # What the address says goes into the search field, the filters and the sorting; and into what is said about them.
    for group in GROUPS:
        asked = " ".join(group).replace("%", "")  # which alone breaks an address for Argilla
        for parts in (
            ("search", "status"),
            ("metadata", "sort", "response", "suggestion", "similarity", "page", "tab"),
        ):
            query = urlencode(dict.fromkeys(parts, asked), quote_via=quote)
            watched.goto(f"/dataset/{dataset}/annotation-mode?{query}")
            watched.page.get_by_text("Filters").first.wait_for()
            watched.check("what the address asks for")
    watched.goto(f"/dataset/{dataset}/annotation-mode")
    left = dict(enumerate(GROUPS))
    while left:
        group = left.pop(shown(watched.page, left))
        talk = watched.page.locator("[id^='fields-content-']").nth(2 * len(GROUPS[0]) + FEW + 1)
        assert SIGN in talk.inner_text(), f"one of {group!r} hid a text"
        made = watched.page.locator("iframe").nth(0).content_frame.locator("img, svg, form, a, div[style]")
        assert made.count() == 0, f"a field that shows texts as they are made HTML of {group!r}"
        watched.check(f"the record {group!r}")
        watched.click_all("[id^='fields-content-']")
        watched.check(f"what can be clicked in {group!r}")
        submit(watched.page)
    watched.page.wait_for_timeout(300)
    watched.check("the end of the queue")
    given = [item["responses"] for item in owner("GET", f"/datasets/{dataset}/records", params=SUBMITTED)["items"]]
    assert [[answer["values"]["rating"]["value"] for answer in answers] for answers in given] == [[4]] * len(GROUPS)


SUBMITTED = {"include": "responses", "limit": 1000}


def record(position, group, ids):
    agent = f"onerror:top.__pwned/{position}"  # as much as Argilla lets an agent's name be
    fields = {
        "talk": [{"role": payload[:20], "content": payload} for payload in group],
        "marked_talk": [{"role": "user", "content": text} for text in (*group, SIGN)],
        **{key: {"titles": group} for key in ("simple", "as_html", "advanced", "advanced_html")},
    }
    suggestions = [{"question_id": ids["rating"], "value": 2, "agent": agent, "score": 0.5}]
    for number, payload in enumerate(group):
        fields |= {f"text{number}": payload, f"marked{number}": payload}
        if number < FEW:
            fields[f"spans{number}"] = payload
            fields[f"image{number}"] = f"{'data:image/png,' if number % 2 else f'https:{OUTSIDE}/'}{payload}"
            for question in (f"comment{number}", f"marked_comment{number}"):
                suggestions.append({"question_id": ids[question], "value": payload, "agent": agent, "score": 0.5})
    return {
        "external_id": str(position),
        "fields": fields,
        "metadata": {f"source{number}": payload for number, payload in enumerate(group[:FEW])},
        "suggestions": suggestions,
    }


def shown(page, left):
    """Which of the groups `left` stands, to the letter, in each field that shows a text as it is."""
    many = len(GROUPS[0])
    for _attempt in range(300):
        page.locator("[id^='fields-content-']").first.wait_for()
        areas = page.locator("[id^='fields-content-']").all_text_contents()
        frames = [in_frame(page, number) for number in (0, 2)]
        for position, group in left.items():
            # Text, spans and chat (but for those with markdown), a simple and an advanced custom field.
            pairs = [*zip(group, areas[:many], strict=False), *zip(group[:FEW], areas[2 * many :], strict=False)]
            if frames == [group, group] and all(payload in text for payload, text in pairs):
                assert all(payload in areas[2 * many + FEW] for payload in group)
                return position
        page.wait_for_timeout(100)
    raise AssertionError(f"no payloads are shown in full: {frames} {areas}")


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
        return page.locator("iframe").nth(number).content_frame.locator(".as-text").all_text_contents()
    except Error:  # on its way to the next record
        return []


def test_settings(home, watched):
    """Each payload in the guidelines, titles, descriptions and options of one dataset, as owner and labeler see it."""
    owner = Rest(home)
    numbered = list(enumerate(PAYLOADS))
    options = [{"value": f"v{number}", "text": payload} for number, payload in numbered]
    guidelines = "\n\n".join([SIGN, *PAYLOADS])
    dataset = owner.create_draft(f"hostile-settings-{token_hex(3)}", guidelines=guidelines)
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
    watched.click_all(".markdown-render")
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
    watched.click_all(".markdown-render")
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
    users = add_users(home, PAYLOADS)
    password = owner.credentials.accounts["annotator1"].password
    for number, payload in enumerate(PAYLOADS):
        workspace = owner("POST", "/workspaces", json={"name": payload})["id"]
        owner.create_dataset(payload[:200], workspace=workspace, fields={"t": TEXT}, questions={"rating": RATING})
        owner("POST", f"/workspaces/{workspace}/users", json={"user_id": users[PAYLOADS[0]]["id"]})
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
    for group in GROUPS:
        # As many as there is room for; a workspace's name has no end.
        name, workspace = " ".join(group)[:200], " ".join(group)
        workspace_id = owner("POST", "/workspaces", json={"name": workspace})["id"]
        watched.goto(f"/dataset/{owner.create_draft(name, workspace=workspace_id)}/settings")
        page.locator(".tab__button", has_text="Danger zone").click()
        page.locator(".dataset-delete .button, .dataset-delete button").first.click()
        asked = page.get_by_text("You are about to delete").first
        asked.wait_for()
        assert name in asked.text_content()
        assert workspace in asked.text_content()
        watched.check(f"the question whether to delete {name!r}")
    page.locator(".modal-buttons button", has_text="Yes").first.click()
    page.locator(".toast-text").wait_for()
    watched.check("the message that it is deleted")


def add_users(home, names):
    """Annotators of these names, with annotator1's password: hashing one for each would take a quarter of a minute."""
    users = {name: {"id": token_hex(16), "api_key": token_hex(32)} for name in names}
    with closing(sqlite3.connect(home / "argilla.db", timeout=30)) as database, database:
        for name, user in users.items():
            database.execute(
                "INSERT INTO users"
                " (id, first_name, last_name, username, role, api_key, password_hash, inserted_at, updated_at)"
                " SELECT ?, ?, ?, ?, role, ?, password_hash, inserted_at, updated_at FROM users"
                " WHERE username = 'annotator1'",
                (user["id"], name, name, name, user["api_key"]),
            )
            database.execute(
                "INSERT INTO workspaces_users (id, workspace_id, user_id, inserted_at, updated_at)"
                " SELECT ?, id, ?, inserted_at, updated_at FROM workspaces WHERE name = 'lingo'",
                (token_hex(16), user["id"]),
            )
    return users


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
