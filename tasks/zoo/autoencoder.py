"""The dense autoencoder, the anomaly detection model of MLPerf Tiny (Banbury et al., 2021; Koizumi et al., 2019).

After mlcommons/tiny, benchmark/training/anomaly_detection/keras_model.py: 269,992 parameters for vectors of 640 values.
"""

from typing import TYPE_CHECKING

from tasks.zoo.blocks import MOMENTUM, flat, widened
from tasks.zoo.ends import ModelEnds, close_end, open_end

if TYPE_CHECKING:
    import tensorflow as tf

UNITS = (128, 128, 128, 128, 8, 128, 128, 128, 128)


def build(ends: ModelEnds, width: float) -> "tf.keras.Model":
    """Dense layers with batch norm and ReLU, narrowing to 8 values at width 1 and widening again."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs, x = open_end(ends)
    x = flat(x)
    for number, units in enumerate(UNITS, 1):
        x = layers.Dense(widened(units, width), name=f"dense{number}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"dense{number}_norm")(x)
        x = layers.ReLU(name=f"dense{number}_relu")(x)
    return close_end(ends, inputs, x, "autoencoder")
