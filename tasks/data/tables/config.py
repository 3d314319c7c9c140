"""How a table's columns are read."""

import codecs
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

Missing = Literal["refuse", "drop", "mean", "median", "zero", "indicator"]


def _at(position: int) -> dict[str, Any]:
    return {"position": position}


class TableConfig(BaseModel, frozen=True, extra="forbid", title="Table"):
    """How text files are read, and which numbers a model gets of columns that hold others or have gaps."""

    missing: Missing = Field(
        default="refuse",
        description="What is done with missing values: refuse them, drop their rows, or fill them: with the column's "
        "mean or median over the training rows, with zero, or (indicator) with the mean and an input more that is 1 "
        "where a value is missing. A missing category has no input that is 1.",
        json_schema_extra=_at(0),
    )
    categories: Literal["one_hot", "ids"] = Field(
        default="one_hot",
        description="What a column of texts becomes: an input for each of its categories, which is 1 there, or one "
        "input, the category's number from 1. A category that the training rows lack is 0 in either.",
        json_schema_extra=_at(1),
    )
    max_categories: int = Field(
        default=64,
        ge=2,
        le=100_000,
        description="How many categories of one column become inputs at most. More takes columns with more categories, "
        "and makes the model larger.",
        json_schema_extra=_at(2),
    )
    categorical: str = Field(
        default="",
        description="Columns of numbers that are categories, such as codes, separated by commas. Those of texts are so "
        "anyway.",
        json_schema_extra=_at(3),
    )
    texts: str = Field(
        default="",
        description="The column of texts whose words count, such as a review. It is the only input then, and becomes "
        "the ids of its first words: 0 behind its end, 1 for a word that hardly a training row has, and so on.",
        json_schema_extra=_at(4),
    )
    max_words: int = Field(
        default=5000,
        ge=1,
        le=1_000_000,
        description="How many words have an id of their own at most, the most common ones. More knows rarer words, and "
        "makes the model larger.",
        json_schema_extra=_at(5),
    )
    vocabulary: str = Field(
        default="",
        description="A file with the words that a model of yours knows, one a line in the order of their ids, as "
        "TextVectorization.get_vocabulary() gives them. Empty: the training rows' most common ones.",
        json_schema_extra=_at(6),
    )
    text_length: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="How many of a text's first words are inputs; 0 takes as many as 95 of 100 training texts have at "
        "most. More reads longer texts to their end, and takes longer.",
        json_schema_extra=_at(7),
    )
    date_format: str = Field(
        default="",
        description="How dates are written, as in strptime: '%d.%m.%Y'. ISO 8601 is read without it.",
        json_schema_extra=_at(8),
    )
    header: Literal["auto", "names", "none"] = Field(
        default="auto",
        description="Whether a text file's first line has the columns' names. Auto: what the first lines show; without "
        "names columns are called column_1, column_2, ….",
        json_schema_extra=_at(9),
    )
    encoding: str = Field(
        default="",
        description="A text file's encoding, such as cp1252 or latin-1. Empty: UTF-8, or UTF-16 where the file begins "
        "with its mark.",
        json_schema_extra=_at(10),
    )

    @model_validator(mode="after")
    def _of_texts(self) -> Self:
        for name in ("max_words", "text_length"):
            value = getattr(self, name)
            if not self.texts and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}: {value!r} is about a column of texts, and none is named: write it as data.table.texts, "
                    f"or leave {name} out"
                )
        return self

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        if name:
            try:
                "".encode(codecs.lookup(name).name)  # some codecs of Python's are from bytes to bytes
            except (LookupError, ValueError) as error:
                raise ValueError(f"no encoding of text that Python knows ({error}); such as cp1252") from error
        return name
