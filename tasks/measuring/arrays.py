"""What is measured on, and how a figure is kept."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

Floats = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.floating[Any]]
Figure = Annotated[float, AfterValidator(lambda value: float(f"{value:.6g}"))]  # no measurement here has more digits
