"""One YAML file describes one project. Unknown keys are errors, relative paths start at the file.

Every model below is one section of that file; `lingo-hitl init` writes a commented example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLM, BudgetConfig, Quota, Section, Url, VariableName

Language = Literal["ko", "en"]
Aspect = Literal[
    "overall-rating",
    "helpfulness",
    "relevance",
    "depth",
    "creativity",
    "honesty",
    "truthfulness",
    "instruction-following",
]


Share = Annotated[float, Field(ge=0, le=1)]


Pooling = Literal["auto", "pooler", "mean", "cls"]
"""auto: as sentence-transformers was told to where the model comes with its settings, else the model's own
pooler where it was trained, else the mean."""
DType = Literal["float32", "bfloat16"]
Engine = Literal["local", "ray"]


Preset = Literal["koalpaca", "kullm", "oig-ko", "alpaca", "dolly", "sharegpt", "messages"]
"""Corpora whose columns are known by name; see `corpus.presets`."""


class Corpus(Section):
    """Where seed rows come from: a file, a folder of `datasets`, a hub id, or `sample:ko` / `sample:en`."""

    path: str
    preset: Preset | None = None  # how its columns are laid out; found out where absent
    columns: dict[Literal["instruction", "output", "id", "language", "quality"], str] = Field({})
    source: str | None = None
    language: Language | Literal["auto"] = "auto"
    split: str = "train"  # hub or datasets folder only
    start: int = Field(0, ge=0)  # rows passed over at the beginning
    limit: int | None = Field(None, ge=1)
    licence: str | None = None  # goes onto the dataset card


class Seeds(Section):
    """Which corpus rows a task starts from: all sources and rows unless told otherwise."""

    sources: list[str] | None = None
    count: int | None = Field(None, ge=0)


class DialogueConfig(Seeds):
    """Two agents talk: one plays the user, one the persona."""

    user: LLM
    assistant: LLM
    personas: str = "sample"  # a personas.yaml, or the shipped ones
    persona: list[str] | None = None  # names to take turns; all where absent
    use_answer_prefix: bool = False  # a prefix of the persona's opens the first answer, a suffix closes the others
    prompts: str | None = None  # a folder of prompts that go before the shipped ones, such as ko/persona_agent.md
    target_turns: int = Field(3, ge=1, le=50)  # one turn: a question and its answer
    opening_temperature: float = Field(0.4, ge=0, le=2)  # of the user, who rewrites the seed's question
    first_answer_temperature: float = Field(0.2, ge=0, le=2)  # of the assistant, who has the seed's answer in view


class Evolve(Section):
    """EvolQuality: rewrite a completion to be better, keeping the original beside it."""

    llm: LLM
    times: int = Field(1, ge=1, le=3)


class PreferenceConfig(Seeds):
    """Several completions of one prompt, from a pool of models."""

    pool: list[LLM] = Field(min_length=1, max_length=4)
    near_copy: float = Field(0.9, gt=0, le=1)  # similarity from which two completions count as copies; 1: only the same
    resamples: int = Field(2, ge=0, le=10)  # how often a copy is asked for again
    evolve: Evolve | None = None
    include_reference: bool = False  # the corpus's own output joins the completions


class InstructionConfig(Seeds):
    """Instructions and outputs of the corpus as they are, for people to validate."""


class GenerateConfig(Section):
    dialogue: DialogueConfig | None = None
    preference: PreferenceConfig | None = None
    instruction: InstructionConfig | None = None
    engine: Engine = "local"  # ray: through distilabel on a Ray cluster, one on this machine where none is
    workers: int | None = Field(None, ge=1)  # ray: processes for each step that asks a model; 2 where absent

    @model_validator(mode="before")
    @classmethod
    def _instruction_alone(cls, content: Any) -> Any:
        """`instruction:` with nothing behind it asks for the task with its defaults."""
        if isinstance(content, dict) and content.get("instruction", ...) is None:
            return {**content, "instruction": {}}
        return content

    @model_validator(mode="after")
    def _something(self) -> GenerateConfig:
        if not (self.dialogue or self.preference or self.instruction):
            raise ValueError("name at least one task: dialogue, preference or instruction")
        return self


Rejected = Literal["worst", "random", "second"]


class Pairing(Section):
    """How rated texts become a pair; see `judging.pairs`."""

    margin: float = Field(0.5, gt=0)  # smallest difference of ratings between chosen and rejected
    rejected: Rejected = "worst"  # random: any lower text, by `seed`; second: the one after the chosen
    max_gap_deviation: float | None = Field(None, gt=0)  # pairs whose gap is further from the mean gap go; see pairs
    seed: int = 42


class BinariseConfig(Pairing):
    """Pairs by the judges' ratings alone, where no people are asked."""

    by: Literal["mean"] | Aspect = "mean"  # the mean of all aspects, or a single one


class QualityConfig(Section):
    """The most of each failure that a dialogue may have to go on; null: any. See docs/dialogue_quality.md."""

    catchphrase_overuse: Share | None = 0.5
    shrinking: Share | None = 0.8
    copying: Share | None = 0.5
    speech_level_shift: Share | None = 0.25


class JudgeConfig(Section):
    """Who rates the texts before people do. Without judges, records carry no suggestions."""

    judges: list[LLM] = Field([])
    aspects: list[Aspect] = Field(["overall-rating"], min_length=1)
    quality: QualityConfig = QualityConfig()
    method: Literal["auto", "text", "probabilities"] = "auto"
    # auto: probabilities of the rating tokens for local models, a written reply for the rest
    swap: bool = False  # written replies: each order of the texts and its reverse
    by_turn: bool = False  # dialogues: each answer has a rating as well
    same_family: Literal["refused", "allowed"] = "refused"  # a judge of the family of the model that wrote the texts
    seed: int = 42  # of the order in which texts are shown
    engine: Engine = "local"  # as in GenerateConfig
    workers: int | None = Field(None, ge=1)
    prompts: str | None = None  # a folder of prompts that go before the shipped ones, such as ko/correctness.md

    @model_validator(mode="after")
    def _each_once(self) -> JudgeConfig:
        labels = [judge.label for judge in self.judges]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise ValueError(f"two judges are called '{twice}', so that they would count as one: give each its `name`")
        return self


class MapConfig(Section):
    encoder: str = "packaged/kiwi"  # or transformers/<any encoder or sentence-transformers model>
    pooling: Pooling = "auto"  # how an encoder's token vectors become one
    perplexity: str | None = "packaged/kiwi"  # or transformers/<any causal LM>
    dtype: DType = "float32"  # of both models
    neighbours: int = Field(15, ge=2)
    min_cluster_size: int = Field(8, ge=2)
    seed: int = 42
    device: str | None = None  # of both models: "cpu", "cuda", ...; chosen where absent
    engine: Engine = "local"  # ray: both models run on the workers of a Ray cluster, one on this machine where none is
    workers: int | None = Field(None, ge=1)  # one for each GPU where absent; on Ray 2


class ArgillaConfig(Section):
    """Which Argilla. Without `url` it is the one of `lingo-hitl up` on this machine."""

    url: Url | None = None
    api_key_env: VariableName = "ARGILLA_API_KEY"
    workspace: str = "lingo"


class PushConfig(Section):
    overlap: int = Field(1, ge=1, le=10)  # people who must answer a record before it leaves the queue


class KoQualityConfig(Section):
    """How a small, good, varied part is picked; see `curation.koquality`."""

    method: Literal["balanced", "exact"] = "balanced"  # exact: what the original code does, its losses included
    length_groups: int = Field(5, ge=1)
    clusters: int = Field(10, ge=1)  # in each length group
    ratio: float = Field(1.0, gt=0, le=1)
    sampling: Literal["ppl", "ppl_h", "rand"] = "ppl"
    seed: int = Field(42, ge=0, lt=2**32)
    # The rest is for `balanced` only.
    keep_perplexity: tuple[Share, Share] = (0.0, 1.0)  # quantiles: rows outside are never sampled
    near_duplicates: float | None = Field(0.8, gt=0, le=1)  # Jaccard similarity from which two rows count as one
    mini_batch_above: int = Field(50_000, ge=1)  # rows of a length group from which k-means takes mini-batches

    @model_validator(mode="after")
    def _ordered(self) -> KoQualityConfig:
        if self.keep_perplexity[0] >= self.keep_perplexity[1]:
            raise ValueError("keep_perplexity: expected two quantiles, the lower one first, such as [0.01, 0.99]")
        return self


class PrepareConfig(Section):
    """How the sources of a raw corpus become one; see `corpus.prepare`."""

    deduplicate: Literal["none", "exact", "near"] = "exact"
    similarity: float = Field(0.8, gt=0, le=1)  # near: Jaccard similarity of character n-grams
    languages: list[Language] | None = None  # rows in others are dropped


class CurateConfig(Section):
    prepare: PrepareConfig = PrepareConfig()  # for `curate run` on the raw corpus
    min_answers: int = Field(1, ge=1)
    max_discards: int = Field(0, ge=0)  # people who may have discarded a row that still goes on
    min_rating: float = Field(1.0, ge=1, le=5)  # instruction and dialogue: mean human rating
    max_spread: float | None = Field(None, ge=0)  # drop rows on which people differ by more
    koquality: KoQualityConfig | None = KoQualityConfig()


class ReleaseConfig(Pairing):
    """The dataset; its pairs are made by what people said."""

    name: str | None = None  # the project's name where absent
    version: str = Field("0.1.0", pattern=r"^\d+\.\d+\.\d+$")
    licence: str = "cc-by-4.0"
    test_fraction: float = Field(0.1, ge=0, lt=1)


class Project(Section):
    """A whole project: `project` and `corpus` must be given, the rest has defaults."""

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    workdir: Path  # work/<project> where absent
    corpus: list[Corpus] = Field(min_length=1)
    generate: GenerateConfig = GenerateConfig(instruction=InstructionConfig())  # rows as they are
    judge: JudgeConfig = JudgeConfig()
    binarise: BinariseConfig = BinariseConfig()
    quotas: dict[VariableName, Quota] = Field({})  # by the variable that holds the key
    budget: BudgetConfig = BudgetConfig()
    map: MapConfig = MapConfig()
    argilla: ArgillaConfig = ArgillaConfig()
    push: PushConfig = PushConfig()
    curate: CurateConfig = CurateConfig()
    release: ReleaseConfig = ReleaseConfig()

    @model_validator(mode="before")
    @classmethod
    def _own_workdir(cls, content: Any) -> Any:
        """Projects beside each other must not share a workdir by default: they would take each other's rows."""
        if isinstance(content, dict) and isinstance(content.get("project"), str):
            return {"workdir": Path("work", content["project"]), **content}
        return content

    @model_validator(mode="after")
    def _rated(self) -> Project:
        if self.binarise.by not in ("mean", *self.judge.aspects):
            aspects = ", ".join(self.judge.aspects)
            raise ValueError(f"binarise.by: '{self.binarise.by}' is not rated; judge.aspects are {aspects}")
        return self


def only_task(project: Project, task: str | None) -> Project:
    """The project with one of its generation tasks alone; all of them where `task` is None.

    Raises:
        UserError: the config does not have that task.
    """
    if task is None:
        return project
    there = [name for name, value in project.generate if isinstance(value, Seeds)]
    if task not in there:
        raise UserError(f"task '{task}' is not in the config; there: {', '.join(there)}. Add it under `generate`.")
    others = dict.fromkeys(name for name in there if name != task)
    return project.model_copy(update={"generate": project.generate.model_copy(update=others)})


def checked_version(version: str) -> str:
    """The version of a release, if it is one.

    Raises:
        UserError: it is not of the form 1.2.0.
    """
    try:
        return ReleaseConfig(version=version).version
    except ValidationError:
        raise UserError(f"version '{version}' is not of the form 1.2.0.") from None
