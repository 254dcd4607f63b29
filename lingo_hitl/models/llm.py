"""From a model's name in the config to something that answers.

packaged/smollm2-135m            comes inside a wheel, runs on this machine
transformers/<path or hub id>    runs on this machine
gemini/<model>                   Google's API, keys from the environment
openai/<model>                   OpenAI's API or any server that speaks it (`base_url`)
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from lingo_hitl.errors import UserError, nearest
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.session import Session

if TYPE_CHECKING:
    from distilabel.models.llms.base import LLM

    from lingo_hitl.models.chat import ChatModel

PACKAGED = ("smollm2-135m",)
_NEEDS = {  # provider: (package that it imports, extra that brings it)
    "packaged": ("transformers", "local"),
    "transformers": ("transformers", "local"),
    "gemini": ("google.generativeai", "gemini"),
    "openai": ("openai", "openai"),
}


def load_llm(spec: LLMSpec, *, session: Session) -> ChatModel:
    """A loaded distilabel LLM for `spec` whose completions go through the session's journal.

    Models on this machine load their weights once a process, however many specs name them.

    Raises:
        UserError: unknown provider or model, missing package, missing key, no such folder.
    """
    provider, _, name = spec.model.partition("/")
    if provider not in _NEEDS or not name:
        raise UserError(
            f"model '{spec.model}' is not known.{nearest(provider, _NEEDS)} "
            f"Expected {', '.join(f'{known}/<model>' for known in _NEEDS)}."
        )
    if provider == "packaged" and name not in PACKAGED:
        raise UserError(f"model '{spec.model}' is not known. Packaged models: {', '.join(PACKAGED)}.")
    package, extra = _NEEDS[provider]
    if not _installed(package):
        raise UserError(
            f"{spec.model}: the package {package} is not installed. Run `pip install 'lingo-hitl[{extra}]'`."
        )
    model = _unloaded(provider, spec, session)
    model.load()
    return model


def journaled(llm: LLM, spec: LLMSpec, *, session: Session) -> ChatModel:
    """Any distilabel LLM, loaded, with the journal in between; `spec` names it and says how it samples."""
    from lingo_hitl.models.wrapped import WrappedModel

    model = WrappedModel(spec=spec, session=session, inner=llm)
    model.load()
    return model


def _unloaded(provider: str, spec: LLMSpec, session: Session) -> ChatModel:
    if provider == "gemini":
        from lingo_hitl.models.gemini import GeminiModel

        return GeminiModel(spec=spec, session=session)
    if provider == "openai":
        from lingo_hitl.models.openai import OpenAIModel

        return OpenAIModel(spec=spec, session=session)
    from lingo_hitl.models.local import LocalModel

    return LocalModel(spec=spec, session=session)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
