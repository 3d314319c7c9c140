"""What stands before and behind the smallest model of each architecture."""

from tasks.zoo import ARCHITECTURES, ModelEnds
from tasks.zoo.ends import InputEnd, OutputEnd


def ends_for(name: str, problem: str = "") -> ModelEnds:
    architecture = ARCHITECTURES[name]
    problem = problem or architecture.problems[0]
    shape = (32, 32, 1) if name == "mobilenet" else (8, 8, 1)
    if architecture.of_words:
        return ModelEnds((InputEnd((9,), ids=30),), (OutputEnd((3,), "classification"),))
    return ModelEnds.one(shape, {"classification": (3,), "regression": (2,), "reconstruction": shape}[problem], problem)
