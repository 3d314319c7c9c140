"""WAV files: every kind of sample becomes the same number, and a spectrogram is TensorFlow's own."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset, open_data
from tasks.data.readers.images import Encoded
from tasks.data.readers.sounds import log_mel, read

RATE = 8000
WAVES = np.random.default_rng(0).uniform(-0.9, 0.9, (24, RATE // 4)).astype(np.float32)


def write(root: Path, waves: list[np.ndarray], rate: int = RATE) -> Path:
    for number, wave in enumerate(waves):
        folder = root / ("low", "high")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / f"{number}.wav", rate, wave)
    return root


def opened(root: Path, **config: object) -> Dataset:
    return open_data(DataConfig(reader="folder", source=str(root), **config))


@pytest.mark.parametrize(
    ("stored", "apart"),
    [
        (lambda wave: (wave * 32768).astype(np.int16), 1 / 32768),
        (lambda wave: (wave * 2.0**31).astype(np.int32), 1e-7),
        (lambda wave: (wave * 128 + 128).astype(np.uint8), 1 / 128),
        (lambda wave: wave, 0),
        (lambda wave: wave.astype(np.float64), 0),
        (lambda wave: np.stack([wave, -wave], axis=1), 0),
    ],
)
def test_samples_are_from_minus_one_to_one_whatever_they_are_stored_as(tmp_path: Path, stored, apart: float) -> None:
    wavfile.write(tmp_path / "a.wav", RATE, stored(WAVES[0]))
    rate, samples = read(Encoded("a", tmp_path / "a.wav"))
    assert (rate, samples.dtype) == (RATE, np.float32)
    np.testing.assert_allclose(samples[:, 0], WAVES[0], atol=apart)


def test_24_bit_samples(tmp_path: Path) -> None:
    import wave

    values = (WAVES[0] * 2**23).astype("<i4")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, RATE, 0, "NONE", ""))
        file.writeframes(b"".join(value.tobytes()[:3] for value in values))
    np.testing.assert_allclose(read(Encoded("a", tmp_path / "a.wav"))[1][:, 0], WAVES[0], atol=2**-22)


def test_class_folders_of_sounds(tmp_path: Path) -> None:
    data = opened(write(tmp_path, list(WAVES)))
    assert (data.input.shape, data.classes) == ((RATE // 4, 1), ("high", "low"))
    rows = {x.tobytes(): y for split in data.counts for x, y in zip(*data.arrays(split), strict=True)}
    assert [rows[wave.tobytes()] for wave in WAVES] == [1, 0] * 12


@pytest.mark.parametrize(("rate", "bands"), [(8000, 20), (16000, 40), (44100, 64), (22050, 13)])
def test_a_spectrogram_is_what_tf_signal_makes_of_the_same_samples(rate: int, bands: int) -> None:
    import tensorflow as tf

    samples = np.random.default_rng(1).normal(0, 0.2, rate // 2).astype(np.float32)
    spectrum = tf.abs(tf.signal.stft(samples, round(0.025 * rate), round(0.01 * rate)))
    weights = tf.signal.linear_to_mel_weight_matrix(bands, spectrum.shape[-1], rate, 20.0, rate / 2)
    theirs = tf.math.log(spectrum @ weights + 1e-6).numpy()
    ours = log_mel(samples, rate, bands)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_folder_of_spectrograms(tmp_path: Path) -> None:
    data = opened(write(tmp_path, list(WAVES)), mel=20)
    assert data.input.shape == (23, 20, 1)
    rows = {x.tobytes() for split in data.counts for x in data.arrays(split)[0]}
    assert log_mel(WAVES[3], RATE, 20)[..., None].tobytes() in rows
    with pytest.raises(DataError, match="too many bands"):
        opened(tmp_path, mel=200)


def test_sounds_of_several_lengths_need_a_length(tmp_path: Path) -> None:
    waves = [*WAVES[:-2], WAVES[-2][:1000], np.tile(WAVES[-1], 2)]
    write(tmp_path, waves)
    with pytest.raises(DataError, match=r"samples .* where the first has .*data.seconds cuts"):
        opened(tmp_path)
    data = opened(tmp_path, seconds=0.25)
    rows = {x.tobytes() for split in data.counts for x in data.arrays(split)[0]}
    assert np.pad(WAVES[-2][:1000], (0, 1000)).tobytes() in rows
    assert WAVES[-1].tobytes() in rows


def test_sounds_that_differ_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "rates", list(WAVES))
    write(tmp_path / "rates" / "low", [WAVES[0]], 16000)
    with pytest.raises(DataError, match="resample to one rate"):
        opened(tmp_path / "rates")
    write(tmp_path / "stereo", [*WAVES, np.stack([WAVES[0], WAVES[1]], axis=1)])
    with pytest.raises(DataError, match="save all with as many"):
        opened(tmp_path / "stereo")
    write(tmp_path / "both", [np.stack([one, one], axis=1) for one in WAVES])
    assert opened(tmp_path / "both").input.shape == (2000, 2)
    with pytest.raises(DataError, match="2 channels; save one"):
        opened(tmp_path / "both", mel=20)


def test_sounds_that_cannot_be_decoded_are_named_all_at_once(tmp_path: Path) -> None:
    write(tmp_path, list(WAVES))
    (tmp_path / "low" / "0.wav").write_bytes((tmp_path / "low" / "0.wav").read_bytes()[:3000])
    (tmp_path / "high" / "1.wav").write_bytes(b"RIFF")
    (tmp_path / "high" / "3.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 24 files.*0\.wav \(it is cut off"):
        opened(tmp_path)
    assert sum(opened(tmp_path, corrupt="skip").counts.values()) == 21


def test_images_among_sounds(tmp_path: Path) -> None:
    from PIL import Image

    write(tmp_path, list(WAVES))
    Image.new("L", (4, 4)).save(tmp_path / "low" / "a.png")
    with pytest.raises(DataError, match="images and sounds; keep one kind"):
        opened(tmp_path)
