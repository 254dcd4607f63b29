"""Lingo_Chat's own YAML through the real command line, against a loopback Gemini."""

import json
from datetime import date

import pytest

from lingo_hitl.generation.personas import load_personas
from lingo_hitl.judging.dialogue_quality.figures import FIGURES
from lingo_hitl.stages import read_rows
from tests.command_line import lingo_here
from tests.lingo_chat.lingo_chat_user import KEYS, SEEDS, YAML, folder_of_a_user, generate, lines_in
from tests.providers import gemini_error, gemini_text
from tests.test_cli import refused

FIELDS = {
    "instruction",
    "messages",
    "num_turns",
    "ans_num_paragraphs",
    "ans_num_words",
    "url",
    "persona",
    "score",
    "score_feedback",
}


def test_its_yaml_runs_unchanged_and_writes_its_two_files(tmp_path, provider):
    ran = generate(folder_of_a_user(tmp_path, [*SEEDS, {"instruction": " ", "output": "?"}]), provider)
    assert ran.returncode == 0, ran.stderr
    assert "dropped 1: the instruction is empty" in ran.stdout
    today = f"{date.today():%y%m%d}.jsonl"
    assert {path.name for path in (tmp_path / "data").glob("*/*.jsonl")} == {"KoAlpaca_v1.1.jsonl", today}
    raw = lines_in(tmp_path / "data" / "synt_raw")
    assert [(line["url"], line["score"]) for line in raw] == [
        ("https://kin.naver.com/0", 4.5),
        ("https://kin.naver.com/1", 2.0),
        ("https://kin.naver.com/2", 4.5),
    ]
    first = raw[0]
    assert set(first) == FIELDS
    assert (first["persona"], first["num_turns"], first["score_feedback"]) == ("neuroticism", 3, "읽어 보았습니다.")
    assert first["instruction"] == first["messages"][0]["content"] == "별은 도대체 무엇일까요?"
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"] * 3
    answers = [message["content"] for message in first["messages"][1::2]]
    assert first["ans_num_paragraphs"] == [2, 2, 2]
    assert first["ans_num_words"] == [len(answer.split(" ")) for answer in answers]
    persona = load_personas("sample")["neuroticism"]
    assert answers[0].startswith(tuple(persona.prefixes("ko")))
    assert all(answer.endswith(tuple(persona.suffixes("ko"))) for answer in answers[1:])
    post = lines_in(tmp_path / "data" / "post")
    assert [line["url"] for line in post] == ["https://kin.naver.com/0", "https://kin.naver.com/2"]
    assert [message["content"] for message in post[0]["messages"][1::2]] == [a.replace("## ", "") for a in answers]
    assert post[0]["ans_num_words"] == [words - 1 for words in first["ans_num_words"]]
    assert "model_inference (Lingo_Chat's vLLM side)" in ran.stdout
    assert set(provider.keys) == set(KEYS.values())
    rows = read_rows(tmp_path / "work" / "basic_config", "lingo_chat").to_pylist()
    assert [row["score"] for row in rows] == [4.5, 2.0, 4.5]
    assert all(isinstance(row[name], float) for row in rows for name in FIGURES)
    assert {row["speech_level"] for row in rows} == {"해요체"}
    assert not list((tmp_path / "work" / "basic_config").glob("*.rows")), "they are in the stage's folder"
    told = ran.stdout + ran.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".env"]
    assert not any(key in told or any(key.encode() in file.read_bytes() for file in files) for key in KEYS.values())


def test_a_second_run_asks_and_writes_nothing_and_a_lower_threshold_adds_what_it_lets_in(tmp_path, provider):
    generate(folder_of_a_user(tmp_path), provider)
    asked = len(provider.prompts)
    before = [path.read_bytes() for path in sorted((tmp_path / "data").glob("*/*.jsonl"))]
    assert "3 were there before" in generate(tmp_path, provider).stdout
    assert [path.read_bytes() for path in sorted((tmp_path / "data").glob("*/*.jsonl"))] == before
    (tmp_path / ".env").rename(tmp_path / "keys")
    assert "3 were there before" in generate(tmp_path, provider, "--offline").stdout
    (tmp_path / "keys").rename(tmp_path / ".env")
    for threshold, there, told in (("1.5", [4.5, 4.5, 2.0], "1 dialogues"), ("4.0", [4.5, 4.5, 2.0], "1 dialogues")):
        (tmp_path / "basic_config.yaml").write_text(YAML.replace("threshold: 3.0", f"threshold: {threshold}"))
        assert told in generate(tmp_path, provider).stdout
        assert [line["score"] for line in lines_in(tmp_path / "data" / "post")] == there
    assert len(provider.prompts) == asked


def test_every_seed_from_start_idx_on_is_used(tmp_path, provider):
    generate(folder_of_a_user(tmp_path, yaml=YAML.replace("start_idx: 0", "start_idx: 1")), provider)
    assert [line["url"][-1] for line in lines_in(tmp_path / "data" / "synt_raw")] == ["1", "2"]
    (tmp_path / "basic_config.yaml").write_text(YAML.replace("start_idx: 0", "start_idx: 7"))
    assert "has no row 7" in refused(generate(tmp_path, provider))


def test_what_is_done_when_the_keys_run_out_is_in_the_files_and_the_next_run_adds_the_rest(tmp_path, provider):
    (tmp_path / "undisturbed").mkdir()
    generate(folder_of_a_user(tmp_path / "undisturbed"), provider)
    calls = len(provider.prompts)
    talk = provider.reply_to
    spent = gemini_error(403, "PERMISSION_DENIED", "no more")
    provider.reply_to = lambda prompt: spent if "달은" in prompt and "점수" in prompt else talk(prompt)
    stopped = generate(folder_of_a_user(tmp_path), provider)
    assert "no API key is left" in refused(stopped)
    done = lines_in(tmp_path / "data" / "synt_raw")
    assert done == lines_in(tmp_path / "undisturbed" / "data" / "synt_raw")[: len(done)] and len(done) < 2
    assert f"{len(done)} dialogues added" in stopped.stdout
    provider.reply_to = talk
    assert generate(tmp_path, provider).returncode == 0
    for folder in ("synt_raw", "post"):
        assert lines_in(tmp_path / "data" / folder) == lines_in(tmp_path / "undisturbed" / "data" / folder)
    refusals = 2  # one for each key
    assert len(provider.prompts) == 2 * calls + refusals


def test_a_dialogue_that_may_come_out_otherwise_waits_for_the_next_run(tmp_path, provider):
    talk = provider.reply_to
    broken, ten = gemini_error(400, "FAILED_PRECONDITION", "not now"), gemini_text("점수: 10\n근거: 훌륭.")
    once = iter([broken])

    def failing(prompt):
        if "쓸 수 없습니다" in prompt or ("점수" in prompt and "별은" in prompt):
            return ten
        if "점수" in prompt and "달은" in prompt:
            return broken
        return (next(once, None) if "점수" in prompt else None) or talk(prompt)

    provider.reply_to = failing
    ran = generate(folder_of_a_user(tmp_path), provider)
    assert "2 dialogues wait for replies that failed for now" in ran.stdout, ran.stderr
    # That others failed does not hold up the one whose score nobody will ever read.
    scores = [(line["url"][-1], line["score"]) for line in lines_in(tmp_path / "data" / "synt_raw")]
    assert scores == [("0", None)]
    provider.reply_to = talk
    generate(tmp_path, provider)
    scores = [(line["url"][-1], line["score"]) for line in lines_in(tmp_path / "data" / "synt_raw")]
    assert scores == [("0", None), ("1", 2.0), ("2", 4.5)]


def test_a_seed_in_the_persona_s_words_is_the_first_turn_as_it_is(tmp_path, provider):
    styled = {**SEEDS[0], "org_output": SEEDS[0]["output"], "output": "별은 반짝여요."}
    generate(folder_of_a_user(tmp_path, [styled]), provider)
    (line,) = lines_in(tmp_path / "data" / "synt_raw")
    assert [message["content"] for message in line["messages"]][:2] == [styled["instruction"], styled["output"]]
    assert line["num_turns"] == 3


def test_its_dialogues_go_on_as_a_project_and_nothing_is_asked_twice(tmp_path, provider):
    generate(folder_of_a_user(tmp_path), provider)
    asked = len(provider.prompts)
    for stage in ("generate", "judge"):
        config = "work/basic_config/project.yaml"
        ran = lingo_here(stage, config, folder=tmp_path, GEMINI_API_ENDPOINT=provider.url, NO_PROXY="127.0.0.1")
        assert ran.returncode == 0, ran.stderr
        assert stage != "generate" or "3 rows      0 dropped" in ran.stdout
    assert len(provider.prompts) == asked  # that a judge's limits may drop some as copies is another matter


def test_a_dialogue_without_a_score_is_kept_in_the_raw_file_alone(tmp_path, provider):
    talk = provider.reply_to
    ten = gemini_text("점수: 10\n근거: 훌륭.")
    provider.reply_to = lambda prompt: ten if "점수" in prompt or "쓸 수 없습니다" in prompt else talk(prompt)
    ran = generate(folder_of_a_user(tmp_path, SEEDS[:1]), provider)
    assert ran.returncode == 0, ran.stderr
    (line,) = lines_in(tmp_path / "data" / "synt_raw")
    assert line["score"] is None
    assert "outside 1 to 5" in line["score_feedback"]
    assert lines_in(tmp_path / "data" / "post") == []


def test_what_nothing_reads_stops_no_run_and_is_kept_nowhere(tmp_path, provider):
    secret = "AIzaWrittenWhereNobodyLooks"
    yaml = YAML.replace("    target_turn:", f"    api_key: {secret}\n    target_turn:")
    yaml = yaml.replace("model_inference:\n", f"model_inference:\n    hf_token: {secret}\n") + "    score:\n"
    ran = generate(folder_of_a_user(tmp_path, SEEDS[:1], yaml=f"{yaml}other: [{secret}]\n"), provider)
    assert ran.returncode == 0, ran.stderr
    assert "multiturn_generation.api_key" in ran.stdout and "other" in ran.stdout
    made = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "basic_config.yaml"]
    assert [path for path in made if secret.encode() in path.read_bytes()] == []
    assert secret not in ran.stdout + ran.stderr
    config = json.loads((tmp_path / "work" / "basic_config" / "lingo_chat" / "manifest.json").read_text())["config"]
    assert config["lingo_chat"]["scoring"]["score_threshold"] == 3.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"JH"]', '"JH", "DN", "YH"]', "needs DN_GEMINI_API_KEY, YH_GEMINI_API_KEY: not set"),
        ('["LE", "JH"]', '["AIzaSyD-0123456789012345678901234567890"]', "never a key itself"),
        ('["LE", "JH"]', "[LE, NO]", "'multiturn_generation.key_list.1': input should be a valid string"),
        ('"neuroticism"', '"neurotic"', "persona 'neurotic' is not defined; known: orbit"),
        (
            "CORRECTNESS_MULTITURN_SCORING_PROMPT",
            "RELEVANCE_PROMPT",
            "should be 'CORRECTNESS_MULTITURN",
        ),
        ("target_turn: 3", "target_turn: 0", "'multiturn_generation.target_turn'"),
        ("score_threshold: 3.0", "score_treshold: 3.0", "key 'scoring.score_threshold' is missing"),
        ("KoAlpaca_v1.1.jsonl", "KoAlpaca_v1.2.jsonl", "KoAlpaca_v1.2.jsonl is no file. Check json.insp"),
    ],
    ids=["keys", "a key itself", "NO", "persona", "prompt", "turns", "misspelt", "seeds"],
)
def test_a_mistake_in_it_is_one_line(tmp_path, provider, old, new, says):
    assert old in YAML
    told = refused(generate(folder_of_a_user(tmp_path, yaml=YAML.replace(old, new)), provider))
    assert says in told
    assert "AIza" not in told
    assert provider.prompts == []


def test_the_word_none_is_no_key(tmp_path, provider):
    folder_of_a_user(tmp_path, keys={"LE_GEMINI_API_KEY": "AIzaSecretOfLE", "JH_GEMINI_API_KEY": "None"})
    assert "needs JH_GEMINI_API_KEY: not set" in refused(generate(tmp_path, provider))


def test_a_project_of_ours_may_follow_config_too(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"instruction": "별은 왜 빛나나요?", "output": "핵융합 때문이에요."}\n')
    (tmp_path / "p.yaml").write_text("project: p\ncorpus: [{path: rows.jsonl}]\n")
    ran = lingo_here("generate", "--config", "p.yaml", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "done before" in lingo_here("generate", "p.yaml", folder=tmp_path).stdout
    assert "two configs" in refused(lingo_here("generate", "p.yaml", "--config", "q.yaml", folder=tmp_path))
    assert "no config is given" in refused(lingo_here("generate", folder=tmp_path))
    told = refused(lingo_here("generate", "p.yaml", "--task", "dialogue", folder=tmp_path))
    assert "task 'dialogue' is not in the config; there: instruction" in told
