"""What a user is told where something cannot be done."""

from __future__ import annotations

import pytest

from argilla_setup.errors import LauncherError


def refused(call, *words):
    """The one line with which `call` is refused, which holds all of the words."""
    with pytest.raises(LauncherError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words), text
    return text
