"""What of Lingo_Chat's dialogues may come out otherwise in another run."""

from lingo_hitl.config import DialogueConfig, JudgeConfig
from lingo_hitl.lingo_chat.scored import scored_dialogues
from lingo_hitl.models.flow import run_flow
from lingo_hitl.models.journal import Journal
from tests.judging.rows import Hasty
from tests.providers import openai_error, serving

SEEDS = [
    {"id": what, "instruction": f"{what} 무엇인가요?", "output": "", "source": "s", "source_id": what, "language": "ko",
     "url": None, "original": None, "persona": "orbit"}
    for what in ("별은", "달은")
]  # fmt: skip


def test_only_a_dialogue_whose_own_score_failed_for_now_may_come_out_otherwise():
    def script(model, messages):
        said = "\n".join(message["content"] for message in messages)
        about = "별은" if "별은" in said else "달은"
        if model == "judge":
            return "점수: 10"
        return f"{about} 왜 그런가요?" if model == "user" else f"{about} 그런 것이에요."

    broken = openai_error(500, "broken")
    with serving(script) as server:
        server.reply_to = lambda prompt: broken if "점수" in prompt and "달은" in prompt else None
        talk = DialogueConfig(
            user=server.spec("user"), assistant=server.spec("persona"), persona=["orbit"], target_turns=1
        )
        flow = scored_dialogues(talk, JudgeConfig(judges=[server.spec("judge")]))
        rows = list(run_flow(flow, SEEDS, Hasty(Journal.in_memory()), what="dialogues", total=2))
        asked = len(server.asked_of("judge"))
    assert [(row["id"], row["score"], row["passing"]) for row in rows] == [("별은", None, False), ("달은", None, True)]
    assert "outside 1 to 5" in rows[0]["feedback"] and "500" in rows[1]["feedback"]
    assert asked == 2 + 5  # one is shown its reply again, the other tried five times and no more
