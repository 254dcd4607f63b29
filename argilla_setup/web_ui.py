"""Corrections to the web UI that comes with argilla-server 2.8.0, made in the copy that each start serves.

A record's text must be shown, not run. Three places of the 2.8.0 bundle put it into the page as HTML or as part of a
script; the replacements below are for that exact bundle, and a start with another one is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

VERSION = "2.8.0"

_REPLACEMENTS = (
    # A plain text field: HTML in it was rendered, in a frame that may read the sign-in token.
    (
        'e.isHTML?t("Sandbox",{attrs:{content:e.fieldText}}):'
        't("div",{class:e.classes,domProps:{innerHTML:e._s(e.fieldText)}})',
        't("div",{class:e.classes,domProps:{textContent:e._s(e.fieldText)}})',
    ),
    # A message of a chat field without markdown.
    ('t("span",{domProps:{innerHTML:e._s(r)}})', 't("span",{domProps:{textContent:e._s(r)}})'),
    # A custom field's record is written into a script: `</script>` ended it, and `$'` is special to String.replace.
    (
        "JSON.stringify(this.sdkRecord)",
        "JSON.stringify(this.sdkRecord).replace(/[<$\\u2028\\u2029]/g,"
        "function(c){return'\\\\u'+('000'+c.charCodeAt(0).toString(16)).slice(-4)})",
    ),
)
_OUTSIDE_FONTS = re.compile(r"@import url\(https://fonts\.googleapis\.com/[^)]*\);")


class WebUiMismatchError(Exception):
    """The bundle is not the one that the corrections were written for."""


def harden(app: Any, version: str) -> None:
    """Correct the files that `app` serves as its web UI."""
    for route in getattr(app, "routes", []):
        if getattr(route, "name", "") == "static":
            harden_files(Path(route.app.directory), version)


def harden_files(folder: Path, version: str) -> None:
    """Correct the bundle in `folder`; WebUiMismatchError where it is another version's, or not as expected."""
    if version != VERSION:
        raise WebUiMismatchError(f"argilla-server is {version}; the corrections to its web UI are for {VERSION}")
    found = dict.fromkeys((old for old, _ in _REPLACEMENTS), 0)
    for file in folder.glob("_nuxt/*.js"):
        text = file.read_text(encoding="utf-8")
        changed = text
        for old, new in _REPLACEMENTS:
            found[old] += changed.count(old)
            changed = changed.replace(old, new)
        if changed != text:
            file.write_text(changed, encoding="utf-8")
    for file in folder.glob("_nuxt/*.css"):
        text = file.read_text(encoding="utf-8")
        changed = _OUTSIDE_FONTS.sub("", text)
        if changed != text:
            file.write_text(changed, encoding="utf-8")
    missing = [old for old, count in found.items() if not count]
    if missing:
        raise WebUiMismatchError(f"the web UI of argilla-server {version} lacks {missing[0][:60]}...")
