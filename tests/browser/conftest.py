"""A labeler who works in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request


class Labeler:
    """Somebody at the Argilla page, who sees texts and buttons and nothing of the API."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        self.outside: list[str] = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("requestfinished", self._note)
        page.on("requestfailed", self._note)

    def _note(self, request: Request) -> None:
        """Requests to elsewhere that left the browser; what the page's own policy stopped did not."""
        if not request.url.startswith((self.url, "data:", "blob:")) and request.failure != "csp":
            self.outside.append(request.url)

    def sign_in(self, username: str, password: str) -> None:
        self.page.goto(f"{self.url}/sign-in")
        self.page.locator("input").first.fill(username)
        self.page.locator("input[type=password]").fill(password)
        self.page.keyboard.press("Enter")
        self.page.get_by_text("Your datasets").wait_for()

    def open(self, dataset: str) -> None:
        self.page.goto(f"{self.url}/datasets")
        self.page.get_by_text(dataset, exact=True).click()
        self.page.get_by_text("Find similar").first.wait_for()

    def count(self) -> int:
        """How many records the queue holds, as the pager says."""
        return int(re.findall(r"\d+", self.page.locator(".pagination__info").inner_text())[-1])

    def await_count(self, expected: int) -> None:
        self.page.locator(".pagination__info", has_text=re.compile(rf" of {expected}\b")).wait_for()

    def search(self, text: str) -> None:
        field = self.page.locator(".search-area__input")
        if not field.is_visible():
            self.page.locator("[data-title=Search]").click()
        field.fill(text)
        field.press("Enter")

    def filter_by_cluster(self, name: str) -> None:
        self.page.get_by_text("Filters").click()
        self.page.get_by_text("Metadata").click()
        self.page.get_by_text("주제 · Cluster").click()
        self.page.locator(".labels-selector__item", has_text=name).click()

    def record_text(self) -> str:
        """What stands on the record that is open."""
        return self.page.locator(".record .fields").first.inner_text()

    def find_similar(self) -> None:
        self.page.get_by_text("Find similar").first.click()
        self.page.get_by_text("Similar to").wait_for()

    def rating(self, question: str) -> int | None:
        """The rating that is chosen now."""
        chosen = self.page.locator(f'[aria-label="Question: {question}"] .label-active')
        return int(chosen.inner_text().strip()) if chosen.count() else None

    def rate(self, question: str, rating: int) -> None:
        self.page.locator(f'[aria-label="Question: {question}"] label[for$="_{rating}"]').click()

    def submit(self) -> None:
        self.page.get_by_role("button", name="Submit").click()


@pytest.fixture
def labeler(browser: Browser, argilla_home) -> Iterator[Labeler]:
    from argilla_setup import launcher

    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="ko-KR")
    yield Labeler(context.new_page(), launcher.credentials(argilla_home).url)
    context.close()
