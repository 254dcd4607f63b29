"""A Llama of two layers made by the test: what a batch, a seed and a long prompt do."""

import json
import shutil

import numpy as np
import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.nucleus import DrawPerRow
from lingo_hitl.models.session import Session

PROMPTS = ["hi", "별은 어떻게", "a longer question?", "abc", "x"]


def local(folder, journal=None, **spec):
    options = {"max_new_tokens": 12, "temperature": 1.0, "device": "cpu", **spec}
    return Session(journal or Journal.in_memory()).llm(LLMSpec(model=f"transformers/{folder}", **options))


def user(text):
    return [{"role": "user", "content": text}]


def texts(groups):
    return [[completion.text for completion in group] for group in groups]


def test_a_text_does_not_depend_on_the_others_in_its_batch(tiny_model):
    together = local(tiny_model).complete([user(p) for p in PROMPTS], num_generations=2)
    alone = [local(tiny_model, batch_size=1).complete([user(p)], num_generations=2)[0] for p in reversed(PROMPTS)]
    assert texts(together) == texts(reversed(alone))
    first, second = texts(together)[2]
    assert first != second


def test_the_seed_changes_what_is_drawn_and_temperature_zero_does_not_draw(tiny_model):
    drawn = {seed: texts(local(tiny_model, seed=seed).complete([user("hi")])) for seed in (0, 1)}
    assert drawn[0] != drawn[1]
    greedy = {seed: texts(local(tiny_model, seed=seed, temperature=0).complete([user("hi")])) for seed in (0, 1)}
    assert greedy[0] == greedy[1]


def test_only_what_the_journal_lacks_is_generated(tiny_model):
    journal = Journal.in_memory()
    model = local(tiny_model, journal)
    before = model.complete([user("abc")])
    after = model.complete([user(p) for p in PROMPTS])
    assert after[3] == before[0]
    counted = model.session.tally.models()["transformers/tiny"]
    assert (counted["calls"], counted["replayed"]) == (len(PROMPTS), 1)


def test_the_journal_knows_a_model_that_was_moved_and_not_one_that_was_trained_on(tiny_model, tmp_path):
    journal = Journal.in_memory()
    before = local(tiny_model, journal).complete([user("abc")])
    moved = tmp_path / "elsewhere" / tiny_model.name
    shutil.copytree(tiny_model, moved)
    model = local(moved, journal)
    assert model.complete([user("abc")]) == before
    assert model.session.tally.models() == {"transformers/tiny": {"replayed": 1}}
    trained = tmp_path / "trained" / tiny_model.name
    shutil.copytree(tiny_model, trained)
    weights = trained / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-400] + bytes(400))
    model = local(trained, journal)
    model.complete([user("abc")])
    assert model.session.tally.models()["transformers/tiny"]["calls"] == 1
    with journal.transaction() as db:
        assert db.execute("SELECT DISTINCT model FROM completions").fetchall() == [("transformers/tiny",)]


def test_a_prompt_longer_than_the_context_loses_its_beginning_with_a_note(tiny_model):
    [[said]] = local(tiny_model).complete([user("0123456789" * 20)])
    assert said.input_tokens == 64 - 12
    assert "prompt tokens were cut" in said.note
    [[short]] = local(tiny_model).complete([user("hi")])
    assert short.note is None
    [[many]] = local(tiny_model, max_new_tokens=500).complete([user("0123456789" * 20)])
    assert many.input_tokens == 32 and many.output_tokens <= 32


def test_weights_are_loaded_once(tiny_model):
    assert local(tiny_model).weights.model is local(tiny_model, name="other", seed=5).weights.model


@pytest.mark.parametrize("choices", [["1", "2", "3"], ["good", "bad", "ba"]], ids=["one token", "several tokens"])
def test_choice_probabilities_are_those_of_the_model(tiny_model, choices):
    import torch

    model = local(tiny_model)
    found = model.choice_probabilities([user(p) for p in PROMPTS[:3]], choices, prefix="Rating: ")
    assert found.shape == (3, 3) and found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1)
    tokenizer, network = model.weights.tokenizer, model.weights.model
    for row, prompt in zip(found, PROMPTS, strict=False):
        start = tokenizer(f"<user>{prompt}\n<assistant>Rating: ")["input_ids"]
        logs = []
        for choice in choices:
            ids = start + tokenizer(choice)["input_ids"]
            with torch.no_grad():
                steps = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            logs.append(sum(steps[at - 1, ids[at]].item() for at in range(len(start), len(ids))))
        shares = np.exp(logs) / np.exp(logs).sum()
        np.testing.assert_allclose(row, shares, atol=1e-4)


def test_choices_that_are_none_are_refused(tiny_model):
    model = local(tiny_model)
    assert model.choice_probabilities([], ["1", "2"]).shape == (0, 2)
    for choices in (["1"], ["1", "1"], ["1", ""]):
        with pytest.raises(ValueError, match="two or more"):
            model.choice_probabilities([user("a")], choices)


def test_a_tokenizer_without_a_chat_template_still_chats(tiny_model, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    [[said]] = local(bare).complete([[{"role": "system", "content": "be brief"}, *user("hi")]])
    assert said.input_tokens == len("System: be brief\nUser: hi\nAssistant:")


def test_a_template_that_refuses_system_messages_gets_them_with_the_question(tiny_model, tmp_path):
    strict = tmp_path / "strict"
    shutil.copytree(tiny_model, strict)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template = strict / "chat_template.jinja"
    template.write_text(refusing + template.read_text())
    [[said]] = local(strict).complete([[{"role": "system", "content": "be brief"}, *user("hi")]])
    assert said.input_tokens == len("<user>be brief\n\nhi\n<assistant>")


def test_folders_that_are_no_model_are_one_line(tiny_model, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        local(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "mute")
    for file in (tmp_path / "mute").glob("token*"):
        file.unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        local(tmp_path / "mute")
    shutil.copytree(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(UserError, match="cannot be loaded") as raised:
        local(tmp_path / "broken")
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="cannot be loaded on 'warp'"):
        local(tiny_model, device="warp")


class Fixed:
    """A stream of evenly spread points, so that frequencies can be counted exactly."""

    def __init__(self, points):
        self.points = iter(points)

    def random(self):
        return next(self.points)


@pytest.mark.parametrize("top_k", [None, 3])
def test_draws_follow_the_nucleus(top_k):
    import torch

    from lingo_hitl.models.chat import Sampling

    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    count = 1000
    sampling = Sampling(temperature=1.0, top_p=0.8, top_k=top_k, max_new_tokens=1, seed=0)
    draw = DrawPerRow(sampling, [Fixed([(i + 0.5) / count]) for i in range(count)])
    alone = draw(None, shares.log().repeat(count, 1))
    drawn = torch.bincount(alone.argmax(-1), minlength=4) / count
    np.testing.assert_allclose(drawn, [0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0], atol=2 / count)
    assert bool((torch.isfinite(alone).sum(-1) == 1).all())
