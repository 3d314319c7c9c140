"""WAV files to samples, or to log-mel spectrograms, with SciPy and NumPy."""

import io
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers.images import Encoded
from tasks.data.source import version

SUFFIXES = (".wav",)
FIELDS = ("mel", "seconds")
FRAME, STEP = 0.025, 0.01  # seconds of a spectrogram's frames and from one to the next, as in speech recognition
LOWEST = 20.0  # hertz, where hearing begins
FLOOR = 1e-6  # added before the logarithm: silence has a finite one

Floats = npt.NDArray[np.float32]


def decoder(config: DataConfig) -> Callable[[np.ndarray], np.ndarray]:
    """Turns `(n,)` encoded sounds into float32 `(n, samples, channels)` from -1 to 1, or with `data.mel` spectrograms.

    The first sound decides the rate, the channels, and without `data.seconds` the length.
    """
    first: dict[str, tuple[int, ...]] = {}

    def decode(sounds: Iterable[Encoded]) -> np.ndarray:
        decoded = []
        for sound in sounds:
            try:
                rate, samples = read(sound)
            except (OSError, ValueError) as error:
                raise DataError("data.source", sound.name, f"no WAV that can be decoded ({error})") from error
            if config.seconds:
                samples = of_length(samples, round(config.seconds * rate))
            kind = (rate, *samples.shape)
            if kind != first.setdefault("kind", kind):
                raise DataError("data.source", sound.name, differs(kind, first["kind"]))
            decoded.append(log_mel(samples[:, 0], rate, config.mel)[..., None] if config.mel else samples)
            if config.mel and samples.shape[1] > 1:
                raise DataError("data.mel", config.mel, f"{sound.name} has {samples.shape[1]} channels; save one")
        return np.stack(decoded)

    return decode


def read(sound: Encoded) -> tuple[int, Floats]:
    """The rate in hertz, and the samples `(samples, channels)` from -1 to 1.

    Raises:
        OSError, ValueError: it is no WAV, is cut off, or is compressed.

    """
    from scipy.io import wavfile

    content = io.BytesIO(sound.content) if isinstance(sound.content, bytes) else sound.content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that say who made it
        warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
        try:
            rate, values = wavfile.read(content)
        except wavfile.WavFileWarning as error:
            raise ValueError(f"it is cut off: {error}") from error
        except Exception as error:  # a header that is damaged meets struct, NumPy or a division by zero
            raise ValueError(str(error) or type(error).__name__) from error
    values = values if values.ndim == 2 else values[:, None]
    if not len(values):
        raise ValueError("it has no samples")
    if values.dtype == np.uint8:  # 8 bits have their zero in the middle
        return rate, (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return rate, (values / np.float64(2.0 ** (8 * values.dtype.itemsize - 1))).astype(np.float32)
    return rate, values.astype(np.float32)


def of_length(samples: Floats, count: int) -> Floats:
    """The first `count` samples, and silence behind them where there are fewer."""
    return np.pad(samples[:count], ((0, max(count - len(samples), 0)), (0, 0)))


def differs(kind: tuple[int, ...], first: tuple[int, ...]) -> str:
    """In what a sound is not like the first, and the way out."""
    (rate, length, channels), (first_rate, first_length, first_channels) = kind, first
    if rate != first_rate:
        return f"has {rate} samples a second where the first has {first_rate}; resample to one rate"
    if channels != first_channels:
        return f"has {channels} channels where the first has {first_channels}; save all with as many"
    return (
        f"has {length} samples ({length / rate:.3f} s) where the first has {first_length}; data.seconds cuts longer "
        "ones and fills shorter ones with silence"
    )


def log_mel(samples: Floats, rate: int, bands: int) -> Floats:
    """A log-mel spectrogram float32 `(frames, bands)`: what `tf.signal` makes of the same numbers.

    That is `tf.signal.stft` with Hann windows of 25 ms every 10 ms, its magnitudes through
    `tf.signal.linear_to_mel_weight_matrix` from 20 Hz to half the rate, and the logarithm of that and 1e-6.

    Args:
        samples: `(samples,)` from -1 to 1.
        rate: samples a second.
        bands: mel bands.

    Raises:
        DataError: shorter than a frame, or more bands than there are frequencies to tell apart.

    """
    length, step = round(FRAME * rate), round(STEP * rate)
    if len(samples) < length:
        raise DataError("data.mel", bands, f"a sound of {len(samples)} samples is shorter than a frame of {FRAME} s")
    period = length - length % 2  # TensorFlow's periodic window is symmetric where the length is odd
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::step] * window
    spectrum = np.abs(np.fft.rfft(frames, 1 << (length - 1).bit_length()))
    return np.log(spectrum @ mel_weights(spectrum.shape[1], rate, bands) + FLOOR).astype(np.float32)


@lru_cache(maxsize=1)
def mel_weights(frequencies: int, rate: int, bands: int) -> npt.NDArray[np.float64]:
    """Triangles on the mel scale (HTK's), float64 `(frequencies, bands)`."""

    def mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 1127 * np.log1p(hertz / 700)

    places = mel(np.linspace(0, rate / 2, frequencies)[1:])[:, None]
    lowest, highest = mel(np.array([LOWEST, rate / 2]))
    edges = np.linspace(lowest, highest, bands + 2)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((places - lower) / (center - lower), (upper - places) / (upper - center)))
    if not weights.any(axis=0).all():
        raise DataError("data.mel", bands, f"too many bands for {rate} samples a second: some are empty; ask for fewer")
    return np.pad(weights, ((1, 0), (0, 0)))  # HTK leaves out the constant


def fault(sound: Encoded) -> str:
    """Why a sound cannot be decoded, or nothing."""
    try:
        read(sound)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def identity() -> str:
    """SciPy decides the samples."""
    return version("scipy")
