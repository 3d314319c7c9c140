"""The model card: what a version is, how it is called and what is known of it, in Markdown."""

import re
from collections.abc import Mapping

from tasks.contract.named import ONE
from tasks.data.artifact import DataArtifact
from tasks.evidence.evidence import Evidence
from tasks.evidence.page import templates

MOST_CHARACTERS = (
    5000  # of a version's description: MLflow's column for it, which PostgreSQL enforces and SQLite does not
)
REST = "\nThe whole card is `README.md` among the version's files.\n"
FIRST_TO_GO = ("Labels", "What the evidence does not say", "What it was made from", "How to call it")


def render_card(
    *,
    name: str,
    description: str,
    evidence: Evidence,
    data: DataArtifact,
    types: Mapping[str, str],
    lineage: Mapping[str, str],
    links: Mapping[str, str],
    brief: bool = False,
) -> str:
    """The model card in Markdown.

    Args:
        name: the registered model's.
        description: what the model is for, in the words of whoever runs the recipe; may be empty.
        evidence: what was measured.
        data: what the model was trained and measured on.
        types: of the numbers that each input takes, by its name, in NumPy's words.
        lineage: sha256 of everything that the version was made from, by step.
        links: where each step's run can be looked at; a step without a link is named only.
        brief: for the registry's page, at most 5,000 characters: what does not fit is left to the whole card.

    """
    template = templates().get_template("model_card.md")
    card = template.render(
        name=name,
        description=description,
        evidence=evidence,
        data=data,
        inputs={name: (types[name], shape) for name, shape in data.input_shapes.items()},
        heads=data.heads,
        zeros=_zeros(data.input_shapes, types),
        lineage=dict(lineage),
        links=dict(links),
        brief=brief,
    )
    return _shortened(card) if brief else card


def _zeros(inputs: Mapping[str, tuple[int, ...]], types: Mapping[str, str]) -> str:
    """Python that makes one example: an array, or one of each input by its name."""
    made = {name: f"np.zeros({(1, *shape)}, dtype=np.{types[name]})" for name, shape in inputs.items()}
    several = "{" + ", ".join(f'"{name}": {zeros}' for name, zeros in made.items()) + "}"
    return f"examples = {made.get(ONE, several)}"


def _shortened(card: str) -> str:
    """A card with as many of its sections as MLflow's database has room for."""
    sections = re.split(r"(?m)^(?=## )", card)
    for title in FIRST_TO_GO:
        if sum(map(len, sections)) > MOST_CHARACTERS - len(REST):
            sections = [section for section in sections if not section.startswith(f"## {title}\n")]
    short = "".join(sections)
    return short[: MOST_CHARACTERS - len(REST)] + REST
