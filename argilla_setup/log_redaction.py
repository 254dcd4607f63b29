"""Errors in logs without what people sent: Argilla logs each request that it refuses, its body included.

A body can hold a password, a record's text or a webhook's address, and so can the parameters of a statement that a
database refuses.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FAULTS = 10
"""A bulk request can have thousands."""


class WithoutInput(logging.Filter):
    """For a handler: reduces an error of validation to where and which kind, and drops its traceback.

    Such a traceback ends in the error's own text. Of a failed statement the parameters are hidden.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        told = [item for item in (record.msg, *_arguments(record)) if isinstance(item, BaseException)]
        if record.exc_info and record.exc_info[1]:
            told.append(record.exc_info[1])
        errors = [error for first in told for error in _chain(first)]
        for error in errors:
            if hasattr(error, "hide_parameters"):
                error.hide_parameters = True
        refused = next((error for error in errors if _faults(error) is not None), None)
        if refused is not None:
            said = "" if isinstance(record.msg, BaseException) or record.args else f"{record.msg}".strip() + ": "
            record.msg, record.args = f"{said}{type(refused).__name__}: {_described(refused)}", None
            record.exc_info = record.exc_text = None
        return True


def _arguments(record: logging.LogRecord) -> tuple[Any, ...]:
    return record.args if isinstance(record.args, tuple) else ()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that a traceback tells with it."""
    waiting, seen = [error], set()
    while waiting:
        now = waiting.pop()
        if id(now) in seen:
            continue
        seen.add(id(now))
        yield now
        waiting += [other for other in (now.__cause__, now.__context__) if other is not None]
        waiting += getattr(now, "exceptions", ())


def _faults(error: BaseException) -> list[Any] | None:
    """What FastAPI's and pydantic's errors of validation list; None for any other error."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return None
    try:
        found = listed()
    except Exception:
        # An error that cannot be read may hold anything.
        return []
    return list(found) if isinstance(found, list | tuple) else None


def _described(error: BaseException) -> str:
    faults = [fault for fault in _faults(error) or [] if isinstance(fault, dict)]
    lines = [f"{'.'.join(str(step) for step in fault.get('loc', ()))} ({fault.get('type')})" for fault in faults]
    more = f", and {len(lines) - MOST_FAULTS:,} more" if len(lines) > MOST_FAULTS else ""
    return (", ".join(lines[:MOST_FAULTS]) or "what was sent is left out") + more
