"""The Python interface: a compression from within a program, also of a model and of arrays that it has in memory.

A compression needs Keras 2, the processor and Prefect's settings for itself, from the start of its process. So it runs
in one of its own, and the program keeps its Keras, its GPU and its memory.
"""

import contextlib
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from flows import programs
from flows.recipe import Recipe
from flows.recipe_file import check_settings
from flows.report import Compression
from tasks.contract import errors
from tasks.contract.errors import RecipeError, SlimlineError
from tasks.contract.state_folder import home

__all__ = ["Compression", "Recipe", "compress"]


def compress(recipe: Recipe, *, model: Any = None, data: Any = None) -> Compression:
    """Compress by a recipe, as `slimline run` does, and return what that ends with.

    A model and arrays are written to the state folder under the digests of their content, and the recipe refers to
    these files. So what was made of the same before is reused, and the version can be verified and monitored later.
    What goes on is shown on standard error.

    Example:
        A model that is trained already, and all data that there are::

            import keras
            from sklearn.datasets import load_digits

            from flows import Recipe, compress

            x, y = load_digits(return_X_y=True)
            model = keras.Sequential(
                [
                    keras.Input((64,)),
                    keras.layers.Rescaling(1 / 16),
                    keras.layers.Dense(64, "relu"),
                    keras.layers.Dense(10, "softmax"),
                ]
            )
            model.compile("adam", "sparse_categorical_crossentropy")
            model.fit(x, y, epochs=20, verbose=0)

            recipe = Recipe(
                name="digits-mlp",
                quantize={"method": "post_training"},
                budget={"max_accuracy_drop": 0.05},
            )
            result = compress(recipe, model=model, data=(x, y))
            print(result.uri, result.evidence)

    Args:
        recipe: The whole input: what is compressed, how, and the limits that a version must keep.
        model: A Keras model, of Keras 2 or 3: the teacher, in place of `teacher.model`. It is taken as it is, unless
            the recipe sets `teacher.fit`.
        data: `(x, y)`, `(train, test)` or `(train, validation, test)` of such pairs, in place of `data.reader` and
            `data.source`: inputs `(n, …)` and one target for each of them, as arrays, lists or pandas; instead of a
            pair also a `tf.data.Dataset` or a `keras.utils.PyDataset`. Several inputs, and the targets of several
            outputs, are dicts of arrays by the model's names; `recipe.data.heads` says what each output is. Without
            test data of its own, `data.test` of them is split off.

    Raises:
        InvalidInput: something is wrong with the recipe, the model or the data; says what, and the way out.
        BudgetNotKept: the version would break a limit; says which, by how much, and which knob to turn.
        SlimlineError: any other failure that a person can mend; the classes of `tasks.contract.errors`.

    """
    file = _written(_with(recipe, model, data))
    with tempfile.TemporaryDirectory(prefix="slimline-") as folder:
        failure = Path(folder) / "failure.json"
        command = programs.python("-m", "flows.apart", str(file), str(failure))
        with subprocess.Popen(  # noqa: S603  our own program
            command, env=programs.environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                answer, _ = process.communicate()
            except KeyboardInterrupt:  # it was pressed for both: that process says what is kept
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                raise
        if process.returncode:
            raise _error(failure, process.returncode)
    return Compression.model_validate_json(answer)


def _with(recipe: Recipe, model: Any, data: Any) -> Recipe:
    """The recipe, referring to a model and to arrays that were written to files."""
    settings = recipe.model_dump(mode="json")
    if model is not None:
        from tasks.formats.keras.in_memory import keep_model

        if "model" in recipe.teacher.model_fields_set:
            raise RecipeError("teacher.model", recipe.teacher.model, "leave it out, as `model` takes its place")
        settings["teacher"]["model"] = str(keep_model(model, home() / "brought"))
        if "fit" not in recipe.teacher.model_fields_set:
            settings["teacher"]["fit"]["epochs"] = 0
    if data is not None:
        from tasks.data.in_memory import keep_arrays

        for field in {"reader", "source", "test_source"} & recipe.data.model_fields_set:
            raise RecipeError(f"data.{field}", getattr(recipe.data, field), "leave it out, as `data` takes its place")
        kept = keep_arrays(data, home() / "brought", recipe.data.beside)
        if len(kept.targets) > 1 and not recipe.data.heads:
            heads = ", ".join(f"{{name: {name}, problem: …}}" for name in kept.targets)
            raise RecipeError("data.heads", "none", f"the targets have names: say what each is, data.heads: [{heads}]")
        settings["data"] |= kept.settings
    return check_settings(settings)


def _written(recipe: Recipe) -> Path:
    """The recipe as a file that stays: a run that was stopped goes on by it."""
    text = recipe.as_yaml()
    digest = hashlib.sha256(text.encode()).hexdigest()
    file = home() / "brought" / f"{recipe.name}-{digest[:12]}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def _error(failure: Path, code: int) -> SlimlineError:
    """What the process failed of, as the class that it is."""
    if not failure.is_file():
        return SlimlineError(f"the compression ended with exit code {code}; its messages stand above")
    failed = json.loads(failure.read_text())
    kind: type[SlimlineError] = next(getattr(errors, name) for name in failed["kinds"] if hasattr(errors, name))
    return kind(*failed["arguments"])
