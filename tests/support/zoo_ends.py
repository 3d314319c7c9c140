"""What stands before and behind the smallest model of each architecture."""

from tasks.zoo import ARCHITECTURES, ModelEnds
from tasks.zoo.ends import InputEnd, OutputEnd


def ends_for(name: str, problem: str = "") -> ModelEnds:
    architecture = ARCHITECTURES[name]
    problem = problem or architecture.problems[0]
    shape = (12, 4) if architecture.rank == 2 else (architecture.smallest, architecture.smallest, 1)
    shape = (8, 8, 1) if max(shape) < 8 else shape
    if architecture.rank == 1:
        return ModelEnds((InputEnd((9,), ids=30),), (OutputEnd((3,), "classification"),))
    return ModelEnds.one(shape, {"classification": (3,), "regression": (2,), "reconstruction": shape}[problem], problem)
