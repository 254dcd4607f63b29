"""Prompts of a user's own: what stands in for a shipped one, and what is refused before anything is asked."""

from pathlib import Path

import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.generation.prompts import check_prompts, render

GENERATION, JUDGING = "lingo_hitl.generation.prompts", "lingo_hitl.judging.prompts"
KEY = "dialogue.prompts in the config"


def write(folder, name, text):
    path = folder / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(folder)


def test_a_prompt_of_ones_own_goes_before_the_shipped_one_and_the_others_stay(tmp_path):
    folder = write(tmp_path, "ko/opening", "\ufeff이렇게 물어라: {{ question }}\n")
    check_prompts(folder, GENERATION, key=KEY)
    assert render(GENERATION, "ko", "opening", folder=folder, question="별은?") == "이렇게 물어라: 별은?"
    assert render(GENERATION, "en", "opening", folder=folder, question="A star?").endswith("A star?")
    assert render(GENERATION, "ko", "opening", question="별은?") != "이렇게 물어라: 별은?"


@pytest.mark.parametrize("package", [GENERATION, JUDGING])
def test_the_shipped_prompts_can_be_copied_as_they_are(package):
    import importlib.resources

    check_prompts(str(importlib.resources.files(package)), package, key=KEY)


@pytest.mark.parametrize(
    ("package", "name", "text", "says"),
    [
        (GENERATION, "ko/opening", "물어라.", "placeholder {{ question }} is missing"),
        (GENERATION, "ko/opening", "{% if question %}{{ quesiton }}{% endif %}", "Did you mean 'question'?"),
        (GENERATION, "ko/opening", "{{ question }", "opening.md:1: not a template"),
        (GENERATION, "ko/evolve", "{{ method }}\n<PROMPT>", "placeholder <RESPONSE> is missing"),
        (GENERATION, "ko/opening", "{{ question | upperr }}", "opening.md:1: Jinja has no filter 'upperr'. Did you"),
        (
            GENERATION,
            "ko/opening",
            "\n{% if question is longg %}{% endif %}",
            "opening.md:2: Jinja has no test 'longg'.",
        ),
        (
            GENERATION,
            "ko/opening",
            "{{ question }}{% block a %}{% endblock %}{% block a %}{% endblock %}",
            "not a template",
        ),
        (GENERATION, "ko/opening", "{{ question }}{% include 'x.md' %}", "opening.md: a prompt stands alone"),
        (GENERATION, "ko/opening", "{% from question import x %}{{ question }}", "opening.md: a prompt stands alone"),
        (GENERATION, "ko/opening", "{% extends 'x' %}{{ question }}", "opening.md: a prompt stands alone"),
        (GENERATION, "ko/openings", "{{ question }}", "there is no such prompt. Did you mean 'ko/opening'?"),
        (JUDGING, "ko/annotate", "{{ criteria }} {{ instruction }}", "placeholder {{ texts }} is missing"),
        (JUDGING, "ko/correctness", "점수: [1~5]", "placeholder {{ dialogue }} is missing"),
    ],
)
def test_a_prompt_that_could_not_be_filled_in_is_refused(tmp_path, package, name, text, says):
    with pytest.raises(UserError) as caught:
        check_prompts(write(tmp_path, name, text), package, key=KEY)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{{ question.text.x }}", "{{ question | round }}", "{{ question / 0 }}"])
def test_a_prompt_of_ones_own_that_cannot_do_that_with_a_value_is_named(tmp_path, text):
    folder = write(tmp_path, "ko/opening", text)
    check_prompts(folder, GENERATION, key=KEY)
    with pytest.raises(UserError, match=r"ko/opening.md: cannot be filled in \(.*\)\. Check") as caught:
        render(GENERATION, "ko", "opening", folder=folder, question="별은?")
    assert "\n" not in str(caught.value)


def test_what_a_shipped_prompt_fills_in_under_a_condition_may_be_left_out(tmp_path):
    text = "{{ title }} {{ role }} {{ speech_level }}"
    check_prompts(write(tmp_path, "ko/persona_agent", text), GENERATION, key=KEY)


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "none", Path(__file__)):
        with pytest.raises(UserError, match=r"no folder with prompts .* Check dialogue.prompts in the config"):
            check_prompts(str(folder), GENERATION, key=KEY)
