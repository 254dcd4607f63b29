"""The one exception that a user can cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend; the command line prints its text as one line and exits with code 2.

    The text says what was seen, what was expected, and what to do. It must never hold a secret.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint ` Did you mean 'x'?` for a misspelt word, or an empty string where nothing is close."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
