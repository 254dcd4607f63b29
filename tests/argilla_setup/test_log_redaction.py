"""What a refused request sent is in no log, however the error comes there."""

from __future__ import annotations

import io
import logging

import pydantic
import pytest

from argilla_setup.log_redaction import WithoutInput


class Body(pydantic.BaseModel):
    password: int


def refused():
    with pytest.raises(pydantic.ValidationError) as caught:
        Body(password="sent-secret")
    return caught.value


@pytest.fixture
def logged():
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.addFilter(WithoutInput())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return lambda *arguments, **more: logger.error(*arguments, **more) or text.getvalue()


def test_an_error_is_reduced_to_where_and_which_kind(logged):
    error = refused()
    assert "sent-secret" in str(error)
    assert logged(error, exc_info=error) == "ValidationError: password (int_parsing)\n"


def test_an_error_behind_others_and_among_others(logged):
    behind = RuntimeError("outer")
    behind.__cause__ = refused()
    assert logged("Exception in ASGI application\n", exc_info=behind) == (
        "Exception in ASGI application: ValidationError: password (int_parsing)\n"
    )
    assert "sent-secret" not in logged("%s: %s", "failed", refused())
    assert "sent-secret" not in logged("a group", exc_info=ExceptionGroup("several", [ValueError("x"), refused()]))


def test_any_other_error_keeps_its_traceback(logged):
    try:
        raise ValueError("of the program")
    except ValueError as error:
        text = logged("failed: %s", error, exc_info=True)
    assert text.startswith("failed: of the program\nTraceback")
    assert text.endswith("ValueError: of the program\n")
