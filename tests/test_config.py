"""One YAML file describes a project; each mistake in it is one line that says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingo_hitl.config import only_task
from lingo_hitl.errors import UserError
from lingo_hitl.project_file import load_project
from lingo_hitl.sample import DEMO, PROJECT

GOOD = """
project: p
corpus: [{path: "sample:ko"}]
generate: {instruction: {}}
"""


def project_at(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "judg: {}", "unknown key 'judg'. Did you mean 'judge'?"),
        (GOOD + "judge: {judges: [], aspect: []}", "unknown key 'judge.aspect'. Did you mean 'aspects'?"),
        (
            GOOD.replace("{instruction: {}}", "{dialogue: {usr: x}}"),
            "unknown key 'generate.dialogue.usr'. Did you mean 'user'?",
        ),
        (GOOD.replace('{path: "sample:ko"}', '{pth: "x"}'), "unknown key 'corpus.0.pth'. Did you mean 'path'?"),
        (GOOD.replace('{path: "sample:ko"}', "{}"), "key 'corpus.0.path' is missing"),
        (GOOD + "release: {margin: 0}", "'release.margin': input should be greater than 0 (found 0)"),
        (GOOD.replace("{instruction: {}}", "{}"), "name at least one task"),
        (GOOD + "map: [", "line 5, column 7"),
        ("", "found nothing"),
        ("- a", "found a list"),
        (GOOD.replace("project: p", "project: 한국"), "'project'"),
        (GOOD + "curate: {koquality: {ratio: 1.5}}", "'curate.koquality.ratio'"),
    ],
)
def test_each_mistake_is_one_line_with_its_place(tmp_path, text, says):
    path = project_at(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_project(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(UserError, match="lingo-hitl init"):
        load_project(tmp_path / "none.yaml")


def test_relative_paths_start_at_the_file(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("Q,A\n", encoding="utf-8")
    text = GOOD.replace('"sample:ko"', "data/a.csv") + "workdir: out\n"
    project = load_project(project_at(tmp_path, text))
    assert project.corpus[0].path == str(tmp_path / "data" / "a.csv")
    assert project.workdir == tmp_path / "out"


def test_a_hub_id_stays_a_hub_id(tmp_path):
    project = load_project(project_at(tmp_path, GOOD.replace("sample:ko", "beomi/KoAlpaca-v1.1a")))
    # A dot in a hub id must not make it look like a file.
    assert project.corpus[0].path == "beomi/KoAlpaca-v1.1a"


def test_a_model_may_be_named_by_itself(tmp_path):
    project = load_project(project_at(tmp_path, GOOD + "judge: {judges: [gemini/gemini-2.0-flash]}"))
    assert project.judge.judges[0].model == "gemini/gemini-2.0-flash"


def test_one_task_alone_runs_as_the_config_says(tmp_path):
    text = GOOD.replace(
        "{instruction: {}}", "{instruction: {}, preference: {pool: [gemini/a]}, engine: ray, workers: 3}"
    )
    project = load_project(project_at(tmp_path, text))
    alone = only_task(project, "preference").generate
    assert (alone.engine, alone.workers, alone.instruction) == ("ray", 3, None)
    assert alone.preference == project.generate.preference and project.generate.instruction is not None
    with pytest.raises(UserError, match=r"there: preference, instruction\. Add it"):
        only_task(project, "dialogue")


ACCOUNTS = Path(__file__).parents[1] / "configs" / "accounts.yaml"
PROJECTS = sorted(set((Path(__file__).parents[1] / "configs").glob("*.yaml")) - {ACCOUNTS})


@pytest.mark.parametrize("path", [DEMO, PROJECT, *PROJECTS], ids=lambda p: p.stem)
def test_every_shipped_config_loads(path):
    load_project(path)


def test_a_model_folder_beside_the_file_is_found_from_anywhere(tmp_path):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    text = GOOD + "map: {encoder: transformers/models/tiny, perplexity: transformers/some/hub-id}"
    project = load_project(project_at(tmp_path, text))
    assert project.map.encoder == f"transformers/{tmp_path}/models/tiny"
    assert project.map.perplexity == "transformers/some/hub-id"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("judge: {judges: [openai/a, {model: openai/a, temperature: 0}]}", "two judges are called 'a'"),
        ("judge: {aspects: [depth]}\nbinarise: {by: honesty}", "'honesty' is not rated; judge.aspects are depth"),
        ("judge: {same_family: yes}", "'judge.same_family'"),
    ],
)
def test_judges_that_would_count_as_one_and_ratings_that_nobody_gives_are_refused(tmp_path, text, says):
    with pytest.raises(UserError) as caught:
        load_project(project_at(tmp_path, GOOD + text))
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [DEMO, PROJECT, *PROJECTS], ids=lambda p: p.stem)
def test_shipped_configs_own_up_to_judges_of_the_writers_family(path):
    from lingo_hitl.judging.families import same_family_warnings

    project = load_project(path)
    same_family_warnings(project.generate, project.judge)


def test_a_misspelt_limit_of_a_key_names_the_nearest(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("project: p\ncorpus: [{path: 'sample:ko'}]\nquotas: {GEMINI_API_KEY: {request_per_minute: 60}}\n")
    with pytest.raises(UserError, match=r"unknown key 'quotas.GEMINI_API_KEY.request_per_minute'. Did you mean"):
        load_project(path)
