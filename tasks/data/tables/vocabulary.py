"""The words that a model of a person's own knows, in a file."""

from collections import Counter
from pathlib import Path

from tasks.contract.errors import DataError
from tasks.data.tables.config import TableConfig

KERAS_FIRST = ("", "[UNK]")  # what get_vocabulary() begins with: no word, and any other
WORD_A_LINE = "write one word a line, in the order of their ids, as TextVectorization.get_vocabulary() gives them"


def words_in(file: str) -> tuple[str, ...]:
    """The words of a file, one a line, without those that Keras begins with.

    Raises:
        DataError: it cannot be read, or has a word twice.

    """
    try:
        words = _place_of(file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("data.table.vocabulary", file, f"cannot be read ({error}); {WORD_A_LINE}") from error
    words = words[len(KERAS_FIRST) :] if tuple(words[: len(KERAS_FIRST)]) == KERAS_FIRST else words
    if twice := next((word for word, count in Counter(words).items() if count > 1), None):
        raise DataError("data.table.vocabulary", file, f"has the word {twice!r} twice; {WORD_A_LINE}")
    return tuple(words)


def files_of(table: TableConfig) -> dict[str, Path]:
    """The file, if a recipe names one.

    Raises:
        DataError: it is not there, or has no texts to be of.

    """
    if table.vocabulary and not table.texts:
        remedy = "has the words of a column of texts: name it in data.table.texts"
        raise DataError("data.table.vocabulary", table.vocabulary, remedy)
    return {"vocabulary": _place_of(table.vocabulary)} if table.vocabulary else {}


def _place_of(file: str) -> Path:
    place = Path(file).expanduser()
    if not place.is_file():
        raise DataError("data.table.vocabulary", file, f"is not there, seen from {Path.cwd()}; {WORD_A_LINE}")
    return place
