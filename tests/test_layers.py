"""The arrows of the house point down, and importing a recipe stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = (
    "prepare",
    "train",
    "distill",
    "prune",
    "quantize",
    "convert",
    "choose",
    "validate",
    "register",
    "compare",
    "smoke",
    "bundle",
    "trial",
    "verify",
)
FORMAT_LIBRARIES = {"tf2onnx", "onnx", "onnxruntime", "ai_edge_litert"}


def imports(file: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(file: Path, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(file, **options)}


ours = [file for folder in ("flows", "tasks") for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("file", ours, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    where = file.relative_to(ROOT).as_posix()
    if where != "tasks/tracking.py":
        assert "mlflow" not in packages(file), "MLflow is imported in tasks/tracking.py only"
    if not where.startswith("tasks/formats/") and where != "tasks/tracking.py":
        assert not packages(file) & FORMAT_LIBRARIES, "runtimes and converters are imported in tasks/formats only"
    if where.startswith("flows/"):
        assert not packages(file) & {"tensorflow", "tf_keras", "tensorflow_model_optimization", "numpy"}, (
            "flows hold no ML code"
        )
    else:
        assert "flows" not in packages(file), "tasks know nothing of flows"
    if file.parent.name == "tasks" and file.stem in STAGES:
        reached = {name.split(".")[1] for name in imports(file) if name.startswith("tasks.")}
        assert not reached & set(STAGES) - {file.stem}, "no stage imports another stage"
    if file.parent.name in ("formats", "data", "zoo"):
        reached = {name.split(".")[1] for name in imports(file) if name.startswith("tasks.")}
        assert not reached & {*STAGES, "stage", "tracking"}, "formats, data and zoo are below the stages"
    heavy = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "sklearn", "pyarrow", "scipy", "matplotlib"}
    assert not packages(file, top_only=True) & (heavy | FORMAT_LIBRARIES | {"mlflow"}), (
        "imported in the function that uses it"
    )


def test_the_mlflow_folder_is_no_package():
    assert (ROOT / "mlflow").is_dir()
    assert not list((ROOT / "mlflow").rglob("*.py"))
    program = "import mlflow, pathlib; print(pathlib.Path(mlflow.__file__).parent)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) != ROOT / "mlflow"
    assert Path(found.stdout.strip()).parent.name == "site-packages"


def test_a_recipe_is_cheap_to_import():
    program = (
        "import sys, flows.recipe\n"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 'mlflow', 'onnx', 'onnxruntime', 'sklearn', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_file_is_two():
    long = {
        str(file.relative_to(ROOT)): lines
        for file in [*ours, *(ROOT / "tests").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
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
