"""The arrows of the house point down, and importing a recipe stays cheap."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORMAT_LIBRARIES = {"tf2onnx", "onnx", "onnx_ir", "onnxruntime", "ai_edge_litert"}
HEAVY = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "sklearn", "pyarrow", "scipy", "matplotlib"}

# The floors of `tasks/`, from the ground up: a folder may import what stands on floors below its own. Above all are the
# stages, which are the files at the top of `tasks/`, and above these `flows/`.
FLOORS = (
    {"contract"},
    {"measuring", "data", "keras_graph"},
    {"quantization", "training", "drift"},
    {"formats"},
    {"zoo", "channels", "evidence", "store"},
    {"versions", "search"},
    {"processors", "serving"},
    {"bundles"},
)
FOLDERS = {file.parent.name for file in (ROOT / "tasks").glob("*/__init__.py")}
STAGES = {file.stem for file in (ROOT / "tasks").glob("*.py")} - {"__init__"}


def imports(file: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file: Path, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(file, **options)}


ours = [file for folder in ("flows", "tasks") for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("file", ours, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    where = file.relative_to(ROOT).as_posix()
    if where != "tasks/store/tracking.py":
        assert "mlflow" not in packages(file), "MLflow is imported in tasks/store/tracking.py only"
    if not where.startswith("tasks/formats/") and where != "tasks/store/tracking.py":
        assert not packages(file) & FORMAT_LIBRARIES, "runtimes and converters are imported in tasks/formats only"
    if where.startswith("flows/"):
        assert not packages(file) & {"tensorflow", "tf_keras", "tensorflow_model_optimization", "numpy"}, (
            "flows hold no ML code"
        )
    else:
        assert "flows" not in packages(file), "tasks know nothing of flows"
    assert not packages(file, top_only=True) & (HEAVY | FORMAT_LIBRARIES | {"mlflow"}), (
        "imported in the function that uses it"
    )
    if where.startswith("tasks/"):
        reached = {name.split(".")[1] for name in imports(file) if name.startswith("tasks.")}
        folder = file.relative_to(ROOT / "tasks").parts[0]
        assert not reached & STAGES - {file.stem}, "a stage is imported by flows alone"
        if folder in FOLDERS:
            floor = next(floor for floor, folders in enumerate(FLOORS) if folder in folders)
            below = {folder}.union(*FLOORS[:floor])
            assert reached <= below, f"tasks/{folder} stands on {sorted(below)}"


def test_every_folder_has_its_floor_and_a_sentence():
    assert set().union(*FLOORS) == FOLDERS
    assert sum(map(len, FLOORS)) == len(FOLDERS)
    for folder in (ROOT / "tasks").rglob("*/"):
        if list(folder.glob("*.py")):
            sentence = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
            assert sentence.split("\n")[0].endswith("."), f"{folder}/__init__.py begins with what the folder is"


BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_benchmark_imports_of_ours_is_there(file):
    """No other check reads them, and they run once in a while."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("flows", "tasks"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                path = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.util.find_spec(path), f"{path} is not there"


def test_what_is_measured_is_measured_on_arrays():
    for file in (ROOT / "tasks" / "measuring").glob("*.py"):
        assert not packages(file) & (FORMAT_LIBRARIES | {"tensorflow", "tf_keras", "mlflow", "prefect"}), file.name


def test_the_mlflow_folder_is_no_package():
    assert (ROOT / "mlflow").is_dir()
    assert not list((ROOT / "mlflow").rglob("*.py"))
    program = "import mlflow, pathlib; print(pathlib.Path(mlflow.__file__).parent)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) != ROOT / "mlflow"
    assert Path(done.stdout.strip()).parent.name == "site-packages"


def test_a_recipe_is_cheap_to_import():
    program = (
        "import sys, flows.recipe\n"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 'mlflow', 'onnx', 'onnxruntime', 'sklearn', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_is_two():
    long = {
        str(file.relative_to(ROOT)): lines
        for file in [*ours, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
        if (lines := len(file.read_text().splitlines())) > 400
    }
    assert not long


def test_the_lock_has_hashes_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    pinned = [line for line in lock.splitlines() if "==" in line and not line.startswith(" ")]
    assert len(pinned) > 100
    assert all(line.rstrip().endswith("\\") for line in pinned), "every pin is followed by its hashes"


PLACES = re.findall(
    r"^\| .+ \| `((?:flows|tasks)/\S+\.py)` \| `(\w+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M
)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_behaviour_is_where_contributing_says(file, name):
    tree = ast.parse((ROOT / file).read_text())
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name in names | {target.id for target in targets if isinstance(target, ast.Name)}


def test_contributing_says_where_twenty_behaviours_are():
    assert len(PLACES) >= 20


def test_contributing_names_the_floors():
    rows = re.findall(r"^\| (\d) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, len(FLOORS) + 1))
    assert [set(re.findall(r"`(\w+)`:", folders)) for _, folders in rows] == list(FLOORS)
    assert len(PLACES) > 20
