r"""Corrections to the web UI that comes with argilla-server 2.8.0, made in the copy that each start serves.

What people and models wrote must be shown, not run. The 2.8.0 bundle puts much of it into the page as HTML; the
corrections below are for that exact bundle, and a start with another one is refused. And what could not be saved must
not be left behind without a word.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from argilla_setup.security import custom_field_frame

VERSION = "2.8.0"


class WebUiMismatchError(Exception):
    """The bundle is not the one that the corrections were written for."""


class _Correction(NamedTuple):
    what: str
    pattern: re.Pattern[str]
    replacement: str
    places: int
    """In how many places of the 2.8.0 bundle the pattern is; another number means another bundle."""


def _correct(what: str, pattern: str, replacement: str, *, places: int) -> _Correction:
    return _Correction(what, re.compile(pattern), replacement, places)


def _literally(text: str) -> str:
    """`text` as a replacement in which nothing is special."""
    return text.replace("\\", "\\\\")


UNANSWERED = (
    "The server does not answer, and nothing was saved. Try again in a moment. /"
    " 서버가 응답하지 않아 저장되지 않았습니다. 잠시 뒤에 다시 시도하세요."
)

_ESCAPED = (
    "function(v){return String(v).replace(/[&<>\"']/g,function(c){return'&#'+c.charCodeAt(0)+';'})}"  # JavaScript
)
_CORRECTIONS = (
    _correct(
        "a plain text with a tag in it, which became a page of its own",
        r'(\w)\.isHTML\?(\w)\("Sandbox",\{attrs:\{content:\1\.fieldText\}\}\):\2\("div",',
        r'\2("div",',
        places=8,
    ),
    _correct(
        "texts, span texts, descriptions, agents, user names, workspaces, names of datasets, error messages",
        r"innerHTML:(\w)\._s\(\1\.(fieldText|content|text|title|message|settings\.dataset\.name)\)",
        r"textContent:\1._s(\1.\2)",
        places=62,
    ),
    _correct(
        "messages of a chat without markdown",
        r'("MarkdownRenderer",\{attrs:\{markdown:(\w)\}\}\):\w\("span",\{domProps:\{)innerHTML(:\w\._s\(\2\)\}\}\))',
        r"\1textContent\3",
        places=8,
    ),
    _correct(
        "a dataset's name between tags",
        r'"<strong>"\.concat\((\w)\.dataset\.name,"</strong>"\)',
        r"\1.dataset.name",
        places=2,
    ),
    _correct(
        "names in the sentence that asks whether a dataset should go",
        r"\{datasetName:(\w)\.dataset\.name,workspaceName:\1\.dataset\.workspace\}",
        rf"{{datasetName:({_ESCAPED})(\1.dataset.name),workspaceName:({_ESCAPED})(\1.dataset.workspace)}}",
        places=2,
    ),
    _correct(
        "the status in the page's address",
        r'"recordStatus\."\.concat\((\w)\)',
        r'"recordStatus.".concat(String(\1).replace(/[^a-z]/g,""))',
        places=6,
    ),
    _correct(
        "markdown: no styles for the whole page, nothing to type into, no names that the page's own labels point at",
        r'ADD_TAGS:\["embed","object"\],ADD_ATTR:\["data","target"\],ADD_URI_SAFE_ATTR:\["data"\]',
        'ADD_ATTR:["target"],SANITIZE_NAMED_PROPS:!0,FORBID_TAGS:["style","form","button","select","option","optgroup",'
        '"textarea","label","fieldset","datalist","dialog","map"]',
        places=20,
    ),
    _correct(
        "markdown: the only thing to tick is a task list's box, which cannot be ticked",
        r'(\w) instanceof HTMLAnchorElement&&\1\.setAttribute\("target","_blank"\)',
        r'\1 instanceof HTMLAnchorElement&&\1.setAttribute("target","_blank"),\1 instanceof HTMLInputElement&&'
        r'(\1.setAttribute("type","checkbox"),\1.setAttribute("disabled",""))',
        places=20,
    ),
    _correct(
        "a record inside a custom field's script, which `</script>` ended, and #TEMPLATE# and $' changed",
        r"JSON\.stringify\(this\.sdkRecord\)",
        r"JSON.stringify(this.sdkRecord).replace(/[<>&#$\\u2028\\u2029]/g,"
        r"function(c){return'\\\\u'+('000'+c.charCodeAt(0).toString(16)).slice(-4)})",
        places=8,
    ),
    _correct(
        "the record that a template shows by {{json}}",
        r"JSON\.stringify\(context, null, 4\)",
        "Handlebars.escapeExpression(JSON.stringify(context, null, 4))",
        places=8,
    ),
    _correct(
        "a template with $' in it",
        r'\.replace\("#RECORD_OBJECT#",(\w)\)\.replace\("#TEMPLATE#",this\.content\)',
        r'.split("#RECORD_OBJECT#").join(\1).split("#TEMPLATE#").join(this.content)',
        places=8,
    ),
    _correct(
        "the frame of a custom field: its texts",
        re.escape(custom_field_frame.COMPONENT_BEFORE),
        _literally(custom_field_frame.COMPONENT_AFTER),
        places=10,
    ),
    _correct(
        "the frame of a custom field: its origin",
        custom_field_frame.FRAME_BEFORE,
        custom_field_frame.FRAME_AFTER,
        places=10,
    ),
    _correct(
        "the sign-in page: what the server says, such as how long to wait, instead of a status code",
        re.escape('this.error.toString().includes("401")?this.$t("login.error"):this.error'),
        'this.error.toString().includes("401")?this.$t("login.error"):'
        "((this.error.response||{}).data||{}).detail||this.error",
        places=1,
    ),
    _correct(
        "`Please wait a few seconds`, where the server says how long",
        re.escape('p!==d&&u.notify({message:p,type:"danger"}),l.code'),
        'p!==d&&!(429===c&&l.detail)&&u.notify({message:p,type:"danger"}),l.code',
        places=1,
    ),
    _correct(
        "an answer that could not be saved: the form tells its caller",
        r"\.execute\((\w)\);case 4:(\w)\.next=8;break;case 6:\2\.prev=6,\2\.t0=\2\.catch\(0\);case 8:",
        r".execute(\1);case 4:\2.next=8;break;"
        r'case 6:return \2.prev=6,\2.t0=\2.catch(0),\2.abrupt("return","unsaved");case 8:',
        places=9,
    ),
    _correct(
        "an answer that could not be saved: the page stays at the record, with what was typed",
        r"(\w)\.next=(2|4),(\w)\.(submit|discard)\(\3\.record\);case \2:\3\.\$emit\(",
        r'\1.next=\2,\3.\4(\3.record);case \2:"unsaved"!==\1.sent&&\3.$emit(',
        places=6,
    ),
    _correct(
        "a server that does not answer, as in the seconds of a restart, of which the page said nothing",
        re.escape("c=o.status,l=o.data;u.clear();"),
        "c=o.status,l=o.data;u.clear();if(!r.response&&r.isAxiosError)throw u.notify({message:"
        f'"{UNANSWERED}",type:"danger"}}),r;',
        places=1,
    ),
    _correct("fonts from outside", r"@import url\(https://fonts\.googleapis\.com/[^)]*\);", "", places=2),
)

_HTML = re.compile(r"domProps:\{innerHTML:")
_HARMLESS_HTML = re.compile(
    # Translations, markdown after its sanitizer, icons, a translated sentence; and validations, which are translations.
    r"domProps:\{innerHTML:(\w)\._s\((\1\.\$t\((\"[\w.]+\"|\w)(,\{[^{}]*(\{.*?\}[^{}]*)*\})?\)|"
    r"\1\.(markdownToHtml|path|recordsMessage))\)\}"
)

CONTAINED = "<style>.markdown-render{contain:paint}</style></head>"
"""Markdown may carry styles of its own elements: they may not place them over the rest of the page."""


def harden(app: Any, version: str) -> tuple[str, ...]:
    """Correct the files that `app` serves as its web UI; returns the hashes of its inline scripts.

    Raises WebUiMismatchError where the bundle is another version's, or not as it was released.
    """
    hashes: set[str] = set()
    folders = _static_folders(app)
    if not folders:
        raise WebUiMismatchError(f"argilla-server {version} serves no web UI where it is expected")
    for folder in folders:
        hashes.update(harden_files(folder, version))
    return tuple(sorted(hashes))


def _static_folders(app: Any) -> list[Path]:
    """What `app` serves its web UI from, also where it is mounted below a base URL."""
    folders = []
    for route in getattr(app, "routes", []):
        if getattr(route, "name", "") == "static":
            folders.append(Path(route.app.directory))
        elif hasattr(route, "app"):
            folders += _static_folders(route.app)
    return folders


def harden_files(folder: Path, version: str) -> set[str]:
    """Correct the bundle in `folder`; returns the hashes of the inline scripts in its pages, as a policy names them."""
    if version != VERSION:
        raise WebUiMismatchError(f"argilla-server is {version}; the corrections to its web UI are for {VERSION}")
    found = [0] * len(_CORRECTIONS)
    for file in (*folder.glob("_nuxt/*.js"), *folder.glob("_nuxt/*.css")):
        text = changed = file.read_text(encoding="utf-8")
        for position, correction in enumerate(_CORRECTIONS):
            changed, count = correction.pattern.subn(correction.replacement, changed)
            found[position] += count
        if changed != text:
            file.write_text(changed, encoding="utf-8")
        if len(_HTML.findall(changed)) != len(_HARMLESS_HTML.findall(changed)):
            raise WebUiMismatchError(f"{file.name} of argilla-server {version}'s web UI shows something else as HTML")
    for correction, count in zip(_CORRECTIONS, found, strict=True):
        if count != correction.places:
            raise WebUiMismatchError(
                f"the web UI of argilla-server {version} is not the one that was released"
                f" ({count} places instead of {correction.places}: {correction.what})"
            )
    hashes: set[str] = set()
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8").replace("</head>", CONTAINED, 1)
        page.write_text(text, encoding="utf-8")
        hashes.update(_hash(script) for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL))
    (folder / custom_field_frame.PATH).write_text(custom_field_frame.PAGE, encoding="utf-8")
    return hashes


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
