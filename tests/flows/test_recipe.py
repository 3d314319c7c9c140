import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.recipe import Recipe, StudentConfig
from flows.recipe_file import check_settings, read_recipe
from tasks.contract.budget import Budget
from tasks.contract.errors import RecipeError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "deployments" / "recipes").glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_recipe_is_one(file):
    recipe = read_recipe(file)
    assert recipe.name == file.stem


@pytest.mark.parametrize(
    "budget", [{"min_speedup": 2}, Budget(min_speedup=2), {"min_speedup": "2"}, {"max_size_bytes": 0}, Budget()]
)
def test_a_budget_means_the_same_however_it_is_said(budget):
    """As an object it cut no channels, where the same as fields did."""
    recipe = Recipe(name="a", budget=budget)
    assert recipe.prune.method == ("channels" if recipe.budget.min_speedup else "none")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    named = Recipe(name="a", budget=budget, student=StudentConfig(model="cnn"))
    assert named.prune.method == "none"


def test_a_recipe_survives_its_own_yaml():
    recipe = read_recipe(SHIPPED[0], ["student.width=0.5", "validate.confidence=0.9"])
    assert check_settings(yaml.safe_load(recipe.as_yaml())) == recipe
    assert recipe.student.width == 0.5
    assert recipe.validation.confidence == 0.9
    assert "validate:" in recipe.as_yaml()
    assert "register:" in recipe.as_yaml()


@pytest.mark.parametrize(
    ("text", "field", "value", "remedy"),
    [
        ("name: a\nstudent: {widht: 2}", "student.widht", 2, "did you mean `width`"),
        ("name: a\nstudents: {}", "students", {}, "did you mean `student`"),
        ("name: a\nstudent: {width: -1}", "student.width", -1, "greater than 0"),
        ("name: a\nprune: {method: magnitude, sparsity: 1.5}", "prune.sparsity", 1.5, "less than"),
        ("name: A B", "name", "A B", "pattern"),
        ("seed: 1", "name", None, "must be given"),
        ("name: a\nname: b", "recipe", None, "stands here twice"),
        ("name: a\nprune: [1", "recipe", None, "not plain YAML"),
        ("!!python/object/apply:os.system ['true']", "recipe", None, "not plain YAML"),
        ("name: !!python/name:os.system", "recipe", None, "not plain YAML"),
        ("1: 2", "recipe", None, "not a name"),
        ("- a", "recipe", None, "mapping"),
        ("", "recipe", None, "mapping"),
        ("name: a\ntargets: [onnxruntime, onnxruntime]", "targets", None, "once"),
        ("name: a\ntargets: [tensorrt, litert]", "targets", None, "tensorrt cannot be the first"),
        ("name: a\ntargets: [coreml]", "targets.0", "coreml", "'litert'"),
        ("name: a\nbudget: {max_accuracy_drop: .nan}", "budget.max_accuracy_drop", None, "finite number"),
        ("name: a\ndistill: {method: soft_targets}", "recipe", "a", "name a student"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, field, value, remedy):
    with pytest.raises(RecipeError) as refused:
        read_recipe(written(tmp_path, text))
    assert refused.value.field == field
    assert remedy in str(refused.value)
    if value is not None:
        assert refused.value.value == value
    assert refused.value.exit_code == 2


def test_a_teacher_that_is_cut_may_teach_what_is_left_of_it(tmp_path):
    layers = "teacher_layer: block2_relu, student_layer: block2_relu"
    cut = read_recipe(
        written(tmp_path, f"name: a\ndistill: {{method: attention, {layers}}}\nprune: {{method: channels}}")
    )
    assert cut.student.model == "teacher"
    assert cut.distill.teaching.hint == "attention"


def test_every_mistake_has_its_line(tmp_path):
    with pytest.raises(RecipeError) as refused:
        read_recipe(written(tmp_path, "name: a\nseed: -1\nstudent: {width: 0}\nbudgets: {}"))
    message = str(refused.value)
    assert "seed: -1" in message
    assert "student.width: 0" in message
    assert "budgets" in message


@pytest.mark.parametrize("override", ["student.width", "=1", "a..b=1", "name.x=1"])
def test_overrides_are_checked(tmp_path, override):
    with pytest.raises(RecipeError):
        read_recipe(written(tmp_path, "name: a"), [override])


def test_a_missing_or_huge_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.yaml"):
        read_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match="at most"):
        read_recipe(written(tmp_path, "#" * 2_000_000))
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path)


def test_nothing_in_a_recipe_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError):
        read_recipe(written(tmp_path, "!!python/object/apply:os.mkdir ['made']"))
    assert not (tmp_path / "made").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
settings_like = st.dictionaries(
    st.sampled_from([*Recipe.model_json_schema()["properties"], "x", "validation"]), json_values
)


@given(settings_like)
def test_any_settings_are_a_recipe_or_a_named_mistake(settings):
    refused = None
    try:
        recipe = check_settings(settings)
    except RecipeError as error:
        refused = error
    if refused is None:
        assert check_settings(json.loads(recipe.model_dump_json())) == recipe
    else:
        assert refused.field
        assert refused.remedy


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_named_mistake(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("text") / "recipe.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(RecipeError):
        read_recipe(file)


@pytest.mark.parametrize("lines", [6, 300])
def test_aliases_that_stand_for_a_million_values_are_refused_at_once(tmp_path, lines):
    """Ten aliases of the line before on each line: 227 bytes took seconds, and each further line ten times as long."""
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, lines))
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{text}name: *a{lines - 1}\n")
    with pytest.raises(RecipeError, match="its aliases stand for more than 10,000 values"):
        read_recipe(file)
    file.write_text("name: &a [*a]\n")
    with pytest.raises(RecipeError, match="alias of what it is in"):
        read_recipe(file)


def test_aliases_that_a_person_writes_are_taken(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("name: tiny\nteacher: {fit: &fit {epochs: 3}}\ndistill: {fit: *fit}\n")
    recipe = read_recipe(file)
    assert recipe.teacher.fit.epochs == recipe.distill.fit.epochs == 3


@given(st.floats(min_value=0.01, max_value=8), st.integers(min_value=0, max_value=2**31 - 1))
def test_overrides_mean_what_the_file_means(width, seed):
    base = SHIPPED[0]
    overridden = read_recipe(base, [f"student.width={width!r}", f"seed={seed}"])
    settings = yaml.safe_load(base.read_text())
    settings["student"]["width"], settings["seed"] = width, seed
    assert overridden == check_settings(settings)


def test_the_schema_is_a_form():
    schema = Recipe.model_json_schema()
    assert set(schema["properties"]) >= {"validate", "register", "budget", "targets"}
    for name, model in [("Recipe", schema), *schema["$defs"].items()]:
        for field, facts in model["properties"].items():
            meaning = facts if "$ref" not in facts else {**schema["$defs"][facts["$ref"].split("/")[-1]], **facts}
            assert meaning.get("description"), f"{name}.{field} says what turning it does"
            assert "position" in facts, f"{name}.{field} has its place in the form"
            assert "anyOf" not in facts, f"{name}.{field}: a union makes a poor form"


PATHS = """
name: a
data: {reader: npz, source: data/x.npz, test_source: ../test.npz}
teacher: {model: nets/big.h5}
student: {model: mlp}
"""


def test_paths_in_a_recipe_are_relative_to_its_file_and_overrides_to_the_working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "project" / "recipes"
    folder.mkdir(parents=True)
    file = written(folder, PATHS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for here, expected in (
        (folder, ("data/x.npz", "../test.npz", "nets/big.h5")),  # as it is written: so is the recipe's digest
        (tmp_path, ("project/recipes/data/x.npz", "project/test.npz", "project/recipes/nets/big.h5")),
        (elsewhere, (f"{folder}/data/x.npz", f"{tmp_path}/project/test.npz", f"{folder}/nets/big.h5")),
    ):
        monkeypatch.chdir(here)
        recipe = read_recipe(file)
        assert (recipe.data.source, recipe.data.test_source, recipe.teacher.model) == expected
        assert recipe.student.model == "mlp"
        assert read_recipe(file, ["data.source=mine.npz"]).data.source == "mine.npz"
    for value in ("/abs/x.npz", "~/x.npz"):
        assert read_recipe(written(folder, PATHS.replace("data/x.npz", value))).data.source == value
    words = PATHS.replace(
        "npz, source: data/x.npz, test_source: ../test.npz",
        "table, source: data/x.csv, table: {texts: said, vocabulary: words.txt}",
    )
    monkeypatch.chdir(tmp_path)
    table = read_recipe(written(folder, words)).data.table
    assert table.vocabulary == "project/recipes/words.txt"
    monkeypatch.chdir(elsewhere)
    function = PATHS.replace("npz, source: data/x.npz", "function, source: package.module:data")
    assert read_recipe(written(folder, function)).data.source == "package.module:data"
    (shipped,) = [file for file in SHIPPED if file.stem == "mlperf_tiny_resnet8"]
    assert read_recipe(shipped).data.test_source == "data/cifar10/test.parquet", "as seen from the working folder"
