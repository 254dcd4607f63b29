"""Steps for flows on Ray: a worker imports them by name."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.flow import Step


@dataclass(frozen=True)
class Ask(Step):
    """Asks one model the row's question; adds the model's name with what it said and who asked."""

    spec: LLMSpec

    @property
    def models(self):
        return (self.spec,)

    def start(self, session):
        model = session.llm(self.spec)

        async def ask(row):
            said = await model.acomplete(row["q"])
            return {self.spec.label: said.text, f"{self.spec.label} asked by": {os.getpid()}}

        return ask


@dataclass(frozen=True)
class Die(Step):
    """Ends its process with kill -9 at the row that is `n`."""

    spec: LLMSpec  # so that it has workers
    n: int

    @property
    def models(self):
        return (self.spec,)

    def start(self, session):
        async def die(row):
            if row["n"] == self.n:
                os.kill(os.getpid(), signal.SIGKILL)
            return {}

        return die


def longer(row):
    return {"longer": max(row["a"], row["b"], key=len), "q": row["q"] + "!"}
