"""The `.env` file: secrets beside a config, brought into the environment."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from dotenv import load_dotenv

from lingo_hitl.errors import UserError


def load_env(config: Path) -> None:
    """Set what `.env` beside a config, and then the one of the current folder, name and the environment lacks.

    Raises:
        UserError: one is there, and no file, not to be read, or no text in UTF-8. Its content is never repeated.
    """
    for folder in dict.fromkeys((config.resolve().parent, Path.cwd())):
        _load(folder / ".env")


def _load(path: Path) -> None:
    try:
        # Windows writes a byte order mark, which would be part of the first name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Correct that, or move it away.") from error
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text. Save it as UTF-8, or move it away.") from None
    if "\0" in text:
        raise UserError(f"{path}: holds NUL characters, as UTF-16 text does. Save it as UTF-8.")
    load_dotenv(stream=StringIO(text))
