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
        re.compile(
            r'(\w)\.isHTML\?(\w)\("Sandbox",\{attrs:\{content:\1\.fieldText\}\}\):'
            r'\2\("div",\{class:\1\.classes,domProps:\{innerHTML:\1\._s\(\1\.fieldText\)\}\}\)'
        ),
        r'\2("div",{class:\1.classes,domProps:{textContent:\1._s(\1.fieldText)}})',
    ),
    # A message of a chat field without markdown.
    (
        re.compile(
            r'("MarkdownRenderer",\{attrs:\{markdown:(\w)\}\}\):\w\("span",\{domProps:\{)innerHTML(:\w\._s\(\2\)\}\}\))'
        ),
        r"\1textContent\3",
    ),
    # A custom field's record is written into a script: `</script>` ended it, and `$'` is special to String.replace.
    (
        re.compile(r"JSON\.stringify\(this\.sdkRecord\)"),
        r"JSON.stringify(this.sdkRecord).replace(/[<$\\u2028\\u2029]/g,"
        r"function(c){return'\\\\u'+('000'+c.charCodeAt(0).toString(16)).slice(-4)})",
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
    found = [0] * len(_REPLACEMENTS)
    for file in folder.glob("_nuxt/*.js"):
        text = changed = file.read_text(encoding="utf-8")
        for position, (old, new) in enumerate(_REPLACEMENTS):
            changed, count = old.subn(new, changed)
            found[position] += count
        if changed != text:
            file.write_text(changed, encoding="utf-8")
    for file in folder.glob("_nuxt/*.css"):
        text = file.read_text(encoding="utf-8")
        changed = _OUTSIDE_FONTS.sub("", text)
        if changed != text:
            file.write_text(changed, encoding="utf-8")
    if not all(found):
        raise WebUiMismatchError(f"the web UI of argilla-server {version} is not the one that was released")
