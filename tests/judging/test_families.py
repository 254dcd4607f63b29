"""A judge of the writer's own family is refused until the config says that it is meant."""

import pytest

from lingo_hitl.config import GenerateConfig, JudgeConfig
from lingo_hitl.errors import UserError
from lingo_hitl.judging.families import families_of, same_family_warnings
from lingo_hitl.llm_config import LLMSpec


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gemini/gemini-2.0-flash", "gemini/gemini-2.5-pro", True),
        ("openai/gpt-4o-mini", "openai/o3-mini", True),
        ("openai/chatgpt-4o-latest", "openai/gpt-5", True),
        ("transformers/LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct", "transformers//models/exaone-deep-7.8b", True),
        ("transformers/Qwen/Qwen2.5-3B-Instruct", "openai/Qwen3-32B", True),
        ("transformers/deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "openai/qwen2.5", True),
        ("transformers/meta-llama/Llama-3.2-1B", "openai/llama3", True),
        ("transformers//models/ours-2b-sft", "transformers//other/ours-7b-sft", True),
        ("transformers//models/ours", "transformers//models/theirs", False),
        ("transformers/google/gemma-2-9b-it", "gemini/gemini-2.0-flash", False),
        ("transformers/Qwen/Qwen2.5-3B-Instruct", "transformers/LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct", False),
        ("openai/my-model", "openai/my-judge", False),
        ("transformers//models/7b", "transformers//models/1b", False),
    ],
)
def test_families(one, other, same):
    assert bool(families_of(LLMSpec(model=one)) & families_of(LLMSpec(model=other))) == same


def test_the_config_must_say_that_it_is_meant():
    generate = GenerateConfig(
        preference={"pool": ["openai/gpt-4o", "gemini/gemini-1.5-pro"], "evolve": {"llm": "openai/qwen-max"}},
        dialogue={"user": "openai/claude-x", "assistant": "openai/exaone"},
    )
    assert same_family_warnings(generate, JudgeConfig(judges=["openai/solar-pro"])) == []
    for judge, writer in (
        ("gemini/gemini-2.5-pro", "gemini/gemini-1.5-pro"),
        ("openai/qwq-32b", "openai/qwen-max"),
        ("openai/exaone-deep", "openai/exaone"),
        ("openai/claude-y", "openai/claude-x"),
    ):
        with pytest.raises(UserError, match="same_family: allowed") as refused:
            same_family_warnings(generate, JudgeConfig(judges=[judge]))
        assert judge in str(refused.value) and writer in str(refused.value)
        (warning,) = same_family_warnings(generate, JudgeConfig(judges=[judge], same_family="allowed"))
        assert warning.startswith(f"judge {judge} is of the same family as {writer}")


def test_texts_of_the_corpus_have_no_family():
    assert same_family_warnings(GenerateConfig(instruction={}), JudgeConfig(judges=["openai/gpt-4o"])) == []
