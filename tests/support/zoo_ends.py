"""What stands before and behind the smallest model of each architecture."""

from tasks.zoo import ARCHITECTURES, ModelEnds


def ends_for(name: str, problem: str = "") -> ModelEnds:
    architecture = ARCHITECTURES[name]
    problem = problem or architecture.problems[0]
    shape = (32, 32, 1) if name == "mobilenet" else (8, 8, 1)
    return ModelEnds.one(shape, {"classification": (3,), "regression": (2,), "reconstruction": shape}[problem], problem)
