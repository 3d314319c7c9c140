"""Every layer class and activation of Keras 2 and 3, each with the settings that change what it answers.

A line is what one would write in a model: `x` is the tensor at hand and `y` another of its shape. A line that ends
with a layer calls it on `x`. The class that stands first is the one that the line tries.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VECTOR, SEQUENCE, IMAGE, VOLUME = (6,), (8, 4), (8, 8, 3), (4, 6, 6, 2)
FRAMES, STEPS, FIRST, ROWS = (3, 6, 4), (3, 6, 6, 2), (3, 8, 8), (4, 8)
CUBES = (2, 4, 5, 5, 2)

# Lines that both Keras take, by the shape of an example. `#` is followed by the batch size, where one must be fixed.
BOTH: dict[tuple[int, ...], str] = {
    VECTOR: """
        Dense(5)
        Dense(5, use_bias=False)
        Dense(5, activation=LeakyReLU(0.2))
        ActivityRegularization(0.1)
        Activation(LeakyReLU(0.2))
        AlphaDropout(0.5)
        BatchNormalization()
        BatchNormalization(scale=False, center=False, epsilon=0.1)
        Dropout(0.5)
        GaussianDropout(0.5)
        GaussianNoise(0.5)
        Identity()
        ELU()
        ELU(0.3)
        LeakyReLU(0.2)
        PReLU()
        ReLU(max_value=2.0, negative_slope=0.1, threshold=0.3)
        ReLU(threshold=0.5)
        Softmax()
        EinsumDense('ab,bc->ac', output_shape=5, bias_axes='c', activation='relu')
        Flatten()
        LayerNormalization()
        LayerNormalization(scale=False, epsilon=0.1)
        GroupNormalization(3)
        UnitNormalization()
        Normalization(mean=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], variance=[1.0, 2, 3, 4, 5, 6])
        Normalization()
        Normalization(axis=None)
        Normalization(mean=0.5, variance=2.0, axis=None, invert=True)
        RepeatVector(3)
        Reshape((3, 2))
        Reshape((-1, 2))
        Rescaling(0.5, -1.0)
        SpectralNormalization(Dense(5))
        CategoryEncoding(3)(Discretization([-0.5, 0.5])(x))
        Add()([x, y])
        Average()([x, y, x])
        Concatenate()([x, y])
        Dot(1)([x, y])
        Dot(1, normalize=True)([x, y])
        Maximum()([x, y])
        Minimum()([x, y])
        Multiply()([x, y])
        Subtract()([x, y])
        Lambda(lambda t: t * 2.0 + 1.0, output_shape=(6,))
    """,
    SEQUENCE: """
        Dense(5, activation='relu')
        Conv1D(5, 3)
        Conv1D(5, 3, strides=2, padding='same', activation='relu')
        Conv1D(5, 3, dilation_rate=2, padding='causal', use_bias=False)
        Conv1D(6, 3, groups=2)
        Conv1D(5, 1)
        Conv1DTranspose(5, 3)
        Conv1DTranspose(5, 3, strides=2, padding='same')
        Conv1DTranspose(5, 2, strides=3, activation='relu')
        DepthwiseConv1D(3)
        DepthwiseConv1D(3, depth_multiplier=2, strides=2, padding='same')
        DepthwiseConv1D(3, dilation_rate=2)
        SeparableConv1D(5, 3)
        SeparableConv1D(5, 3, strides=2, padding='same', depth_multiplier=2, activation='relu')
        SeparableConv1D(5, 3, dilation_rate=2, padding='causal')
        AveragePooling1D(2)
        AveragePooling1D(3, strides=2, padding='same')
        AveragePooling1D(3, strides=1)
        AveragePooling1D(8)
        MaxPooling1D(2)
        MaxPooling1D(3, strides=2, padding='same')
        GlobalAveragePooling1D()
        GlobalAveragePooling1D(keepdims=True)
        GlobalAveragePooling1D(data_format='channels_first')
        GlobalMaxPooling1D()
        GlobalMaxPooling1D(keepdims=True)
        Cropping1D((1, 2))
        UpSampling1D(2)
        ZeroPadding1D((1, 2))
        SpatialDropout1D(0.5)
        BatchNormalization()
        BatchNormalization(axis=1)
        LayerNormalization(axis=[1, 2])
        LayerNormalization(axis=1)
        GroupNormalization(2)
        GroupNormalization(-1)
        GroupNormalization(4, axis=1)
        UnitNormalization(axis=1)
        Normalization(axis=1)
        Flatten()
        Permute((2, 1))
        Reshape((16, 2))
        PReLU(shared_axes=[1])
        Softmax(axis=1)
        EinsumDense('abc,cd->abd', output_shape=(None, 5), bias_axes='d')
        EinsumDense('abc,bcd->ad', output_shape=5)
        Concatenate(axis=1)([x, y])
        Dot((2, 2))([x, y])
        Dot((1, 1), normalize=True)([x, y])
        Add()([x, GlobalAveragePooling1D(keepdims=True)(y)])
        Multiply()([x, GlobalMaxPooling1D(keepdims=True)(y)])
        LSTM(5)
        LSTM(5, return_sequences=True)
        LSTM(5, go_backwards=True)
        LSTM(5, return_sequences=True, go_backwards=True)
        LSTM(5, use_bias=False, unit_forget_bias=False, unroll=True)
        LSTM(5, activation='relu', recurrent_activation='tanh')
        LSTM(5, dropout=0.5, recurrent_dropout=0.5)
        Concatenate()(LSTM(5, return_state=True)(x))
        LSTM(5)(x, initial_state=LSTM(5, return_state=True)(y)[1:])
        LSTM(5, stateful=True) # 2
        LSTM(5) # 4
        GRU(5)
        GRU(5, return_sequences=True)
        GRU(5, reset_after=False)
        GRU(5, reset_after=False, use_bias=False, go_backwards=True)
        GRU(5, activation='softsign', recurrent_activation='tanh')
        Concatenate()(GRU(5, return_state=True)(x))
        GRU(5, stateful=True) # 2
        SimpleRNN(5)
        SimpleRNN(5, return_sequences=True, activation='relu', use_bias=False)
        SimpleRNN(5, go_backwards=True, unroll=True)
        SimpleRNN(5, stateful=True) # 2
        RNN(LSTMCell(5))
        RNN(GRUCell(5), return_sequences=True)
        RNN(SimpleRNNCell(5), go_backwards=True)
        RNN(StackedRNNCells([LSTMCell(5), GRUCell(3)]))
        Bidirectional(LSTM(3))
        Bidirectional(LSTM(3, return_sequences=True))
        Bidirectional(LSTM(3), merge_mode='mul')
        Bidirectional(GRU(3, return_sequences=True), merge_mode='sum')
        Bidirectional(GRU(3), merge_mode='ave')
        Bidirectional(SimpleRNN(3))
        Concatenate()(Bidirectional(GRU(3), merge_mode=None)(x))
        Bidirectional(LSTM(3), backward_layer=GRU(3, go_backwards=True))
        TimeDistributed(Dense(5, activation='relu'))
        TimeDistributed(BatchNormalization())
        AdditiveAttention()([x, y])
        AdditiveAttention(use_scale=False)([x, y])
        Attention()([x, y])
        Attention(use_scale=True)([x, y])
        Attention(score_mode='concat')([x, y])
        Attention()([x, y], use_causal_mask=True)
        MultiHeadAttention(2, 3)(x, y)
        MultiHeadAttention(2, 3, value_dim=5, use_bias=False, output_shape=3)(x, y)
        MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
        SpectralNormalization(Conv1D(5, 3))
        Masking()
        Masking(0.5)
        Lambda(lambda t: t[:, -1], output_shape=(4,))
    """,
    IMAGE: """
        Conv2D(5, 3)
        Conv2D(5, (3, 2), strides=2, padding='same', activation='relu')
        Conv2D(5, 3, strides=(1, 2), use_bias=False)
        Conv2D(5, 3, dilation_rate=2)
        Conv2D(5, 3, dilation_rate=(1, 2), padding='same')
        Conv2D(6, 3, groups=3)
        Conv2D(5, 1)
        Conv2D(5, 8)
        Conv2DTranspose(5, 3)
        Conv2DTranspose(5, 3, strides=2, padding='same', activation='relu')
        Conv2DTranspose(5, (2, 3), strides=(2, 3), use_bias=False)
        Conv2DTranspose(5, 2, strides=3, padding='same')
        Conv2DTranspose(5, 3, strides=2, output_padding=1)
        Conv2DTranspose(5, 3, dilation_rate=2)
        DepthwiseConv2D(3)
        DepthwiseConv2D(3, strides=2, padding='same', depth_multiplier=2, activation='relu')
        DepthwiseConv2D(3, dilation_rate=2, use_bias=False)
        SeparableConv2D(5, 3)
        SeparableConv2D(5, 3, strides=2, padding='same', depth_multiplier=2, activation='relu')
        SeparableConv2D(5, 3, dilation_rate=2)
        Dense(5)
        AveragePooling2D(2)
        AveragePooling2D(3, strides=2, padding='same')
        AveragePooling2D((2, 3), strides=1)
        AveragePooling2D(8)
        MaxPooling2D(2)
        MaxPooling2D(3, strides=2, padding='same')
        MaxPooling2D((1, 2), strides=(2, 1))
        GlobalAveragePooling2D()
        GlobalAveragePooling2D(keepdims=True)
        GlobalMaxPooling2D()
        GlobalMaxPooling2D(keepdims=True)
        Cropping2D(((1, 0), (2, 1)))
        UpSampling2D(2)
        UpSampling2D((2, 3), interpolation='bilinear')
        UpSampling2D(2, interpolation='bicubic')
        ZeroPadding2D(((1, 0), (2, 1)))
        SpatialDropout2D(0.5)
        Resizing(5, 11)
        Resizing(5, 11, interpolation='nearest')
        Resizing(5, 11, interpolation='bicubic')
        Resizing(16, 16, interpolation='nearest')
        Resizing(4, 6, crop_to_aspect_ratio=True)
        CenterCrop(5, 4)
        CenterCrop(9, 6)
        Rescaling([0.5, 1.0, 2.0], offset=[0.0, 0.1, 0.2])
        BatchNormalization()
        BatchNormalization(axis=1)
        BatchNormalization(axis=2, scale=False)
        LayerNormalization()
        LayerNormalization(axis=[1, 2, 3])
        GroupNormalization(3)
        GroupNormalization(1)
        GroupNormalization(4, axis=1, scale=False)
        UnitNormalization()
        Normalization()
        PReLU(shared_axes=[1, 2])
        PReLU()
        Softmax(axis=1)
        Softmax(axis=[1, 2])
        Flatten()
        Flatten(data_format='channels_first')
        Permute((3, 1, 2))
        Reshape((4, 16, 3))
        Concatenate(axis=2)([x, y])
        Concatenate()([x, y, x])
        Add()([x, GlobalAveragePooling2D(keepdims=True)(y)])
        Multiply()([x, GlobalAveragePooling2D(keepdims=True)(y)])
        Subtract()([x, GlobalMaxPooling2D(keepdims=True)(y)])
        Dot((2, 2))([Reshape((64, 3))(x), Reshape((64, 3))(y)])
        MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, y)
        MultiHeadAttention(2, 3)(x, y)
        TimeDistributed(Conv1D(5, 3))
        TimeDistributed(LSTM(3))
        EinsumDense('...x,xy->...y', output_shape=5, bias_axes='y')
        RandomBrightness(0.2)
        RandomContrast(0.2)
        RandomCrop(5, 6)
        RandomFlip()
        RandomRotation(0.1)
        RandomTranslation(0.1, 0.1)
        RandomZoom(0.2)
        SpectralNormalization(Conv2D(5, 3))
        AlphaDropout(0.5)
    """,
    FRAMES: """
        ConvLSTM1D(4, 3)
        ConvLSTM1D(4, 3, padding='same', return_sequences=True, recurrent_activation='sigmoid')
    """,
    STEPS: """
        ConvLSTM2D(3, 3)
        ConvLSTM2D(3, 3, padding='same', return_sequences=True, go_backwards=True, recurrent_activation='sigmoid')
        ConvLSTM2D(3, 3, strides=2, padding='same', use_bias=False)
        TimeDistributed(Conv2D(3, 3, activation='relu'))
        TimeDistributed(AveragePooling2D(2))
        TimeDistributed(GlobalAveragePooling2D())
        Bidirectional(ConvLSTM2D(2, 3))
    """,
    CUBES: """
        ConvLSTM3D(2, 2)
        ConvLSTM3D(2, 2, padding='same', return_sequences=True, recurrent_activation='sigmoid')
    """,
    VOLUME: """
        Conv3D(4, 3)
        Conv3D(4, (1, 2, 3), strides=2, padding='same', activation='relu')
        Conv3D(4, 3, dilation_rate=(1, 2, 2), use_bias=False)
        Conv3D(4, 3, groups=2)
        Conv3DTranspose(4, 3)
        Conv3DTranspose(4, 2, strides=2, padding='same', activation='relu')
        AveragePooling3D(2)
        AveragePooling3D(3, strides=1, padding='same')
        MaxPooling3D(2)
        MaxPooling3D(3, strides=2, padding='same')
        GlobalAveragePooling3D()
        GlobalAveragePooling3D(keepdims=True)
        GlobalMaxPooling3D()
        GlobalMaxPooling3D(keepdims=True)
        Cropping3D(((0, 1), (1, 0), (1, 2)))
        UpSampling3D((1, 2, 2))
        ZeroPadding3D((1, 0, 2))
        SpatialDropout3D(0.5)
        BatchNormalization()
        LayerNormalization()
    """,
    # Pixels behind channels, as far as Keras has kernels for it on processors.
    FIRST: """
        Conv2D(5, 3, data_format='channels_first')
        Conv2DTranspose(5, 3, strides=2, data_format='channels_first')
        DepthwiseConv2D(3, data_format='channels_first')
        SeparableConv2D(5, 3, data_format='channels_first')
        AveragePooling2D(2, data_format='channels_first')
        AveragePooling2D(8, data_format='channels_first')
        MaxPooling2D(2, data_format='channels_first')
        GlobalAveragePooling2D(data_format='channels_first')
        GlobalAveragePooling2D(data_format='channels_first', keepdims=True)
        GlobalMaxPooling2D(data_format='channels_first')
        Cropping2D(1, data_format='channels_first')
        UpSampling2D(2, data_format='channels_first')
        ZeroPadding2D(1, data_format='channels_first')
        SpatialDropout2D(0.5, data_format='channels_first')
        Flatten(data_format='channels_first')
        BatchNormalization(axis=1)
        PReLU(shared_axes=[2, 3])
        Concatenate(axis=1)([x, y])
    """,
    ROWS: """
        Conv1D(5, 3, data_format='channels_first')
        DepthwiseConv1D(3, data_format='channels_first')
        SeparableConv1D(5, 3, data_format='channels_first')
        AveragePooling1D(2, data_format='channels_first')
        MaxPooling1D(2, data_format='channels_first')
        GlobalMaxPooling1D(data_format='channels_first')
    """,
}
# Lines about whole numbers, which no kernel can stand before; data are float32 all the same, as a data set's are.
INDICES = (5,)
NUMBERED = """
    Embedding(9, 4)
    Embedding(9, 4, mask_zero=True)
    LSTM(4)(Embedding(9, 3, mask_zero=True)(x))
    GRU(4, return_sequences=True)(Embedding(9, 3, mask_zero=True)(x))
    GlobalAveragePooling1D()(Embedding(9, 3, mask_zero=True)(x))
    CategoryEncoding(9)
    CategoryEncoding(9, output_mode='count')
    IntegerLookup(vocabulary=[2, 4, 6], output_mode='multi_hot')
    Embedding(9, 4)(IntegerLookup(vocabulary=[2, 4, 6])(x))
    IntegerLookup(vocabulary=[2, 4, 6])
    Hashing(4)
    Embedding(4, 3)(Hashing(4)(x))
    Discretization([2.0, 4.0, 6.0])
    Embedding(4, 3)(Discretization([2.0, 4.0, 6.0])(x))
    HashedCrossing(5)([Lambda(lambda t: t[:, :1])(x), Lambda(lambda t: t[:, 1:2])(x)])
"""
TWO: dict[tuple[int, ...], str] = {
    VECTOR: """
        ThresholdedReLU(0.5)
    """,
    SEQUENCE: """
        LocallyConnected1D(4, 3)
        LocallyConnected1D(4, 3, strides=2, activation='relu')
        LSTM(5, implementation=1)
        LSTM(5, time_major=True) # 8
        RNN([LSTMCell(5), SimpleRNNCell(3)])
        TimeDistributed(Dropout(0.5))
    """,
    IMAGE: """
        LocallyConnected2D(4, 3)
        LocallyConnected2D(4, 3, implementation=3)
        RandomHeight(0.2)
        RandomWidth(0.2)
        UpSampling2D(2, interpolation='lanczos3')
        Resizing(5, 11, interpolation='area')
        Resizing(5, 11, interpolation='gaussian')
        Resizing(5, 11, interpolation='mitchellcubic')
    """,
}
THREE: dict[tuple[int, ...], str] = {
    VECTOR: """
        RMSNormalization()
    """,
    SEQUENCE: """
        AdaptiveAveragePooling1D(2)
        AdaptiveMaxPooling1D(3)
        GroupQueryAttention(3, 4, 2)(x, y)
        Pipeline([Rescaling(2.0), Rescaling(0.5)])
    """,
    IMAGE: """
        AdaptiveAveragePooling2D(3)
        AdaptiveMaxPooling2D((2, 4))
        AugMix()
        AutoContrast()
        ContrastLimitedAdaptiveHistogramEqualization()
        CutMix()
        Equalization()
        MixUp()
        RandAugment()
        RandomColorDegeneration(0.2)
        RandomColorJitter()
        RandomElasticTransform()
        RandomErasing()
        RandomGaussianBlur()
        RandomGrayscale()
        RandomHue(0.2)
        RandomInvert()
        RandomPerspective()
        RandomPosterization(4)
        RandomSaturation(0.2)
        RandomSharpness(0.2)
        RandomShear(0.2)
        Resizing(5, 11, antialias=True)
        Resizing(6, 6, pad_to_aspect_ratio=True)
        Solarization()
    """,
    VOLUME: """
        AdaptiveAveragePooling3D(2)
        AdaptiveMaxPooling3D(2)
    """,
    (64,): """
        MelSpectrogram(16, 8, sampling_rate=100, num_mel_bins=4, max_freq=50.0)
    """,
    (64, 1): """
        STFTSpectrogram(frame_length=16, frame_step=8)
    """,
    INDICES: """
        ReversibleEmbedding(9, 4)
    """,
}
# What is not tried, and why.
LEFT_OUT = {
    "AbstractRNNCell": "a base class without a computation",
    "DenseFeatures": "takes a dict of feature columns, and a data set's examples are one tensor",
    "FlaxLayer": "runs in JAX",
    "InputLayer": "every line has one",
    "InputSpec": "no layer, but a layer's demand on its input",
    "JaxLayer": "runs in JAX",
    "Layer": "a base class without a computation",
    "MaxNumBoundingBoxes": "takes a dict of boxes, and a data set's examples are one tensor",
    "StringLookup": "takes strings, and data sets are numbers",
    "TFSMLayer": "wraps a SavedModel, whose layers are gone",
    "TextVectorization": "takes strings, and data sets are numbers",
    "TorchModuleWrapper": "runs in PyTorch",
    "Wrapper": "a base class without a computation",
}
SHARED = "elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax softplus softsign swish tanh"
ACTIVATIONS = {
    2: SHARED.split(),
    3: f"""{SHARED} celu glu hard_shrink hard_silu hard_swish hard_tanh leaky_relu log_sigmoid log_softmax relu6 silu
        soft_shrink sparse_plus sparse_sigmoid sparsemax squareplus tanh_shrink""".split(),
}
ACTIVATIONS_LEFT_OUT = {
    "deserialize": "no activation, but reads one",
    "get": "no activation, but looks one up",
    "serialize": "no activation, but writes one",
    "threshold": "takes arguments that a layer's `activation` cannot give",
}


# Lines over sequences for which Keras itself fails behind a mask, or which make one themselves.
NEVER_MASKED = (
    *("GlobalAveragePooling1D(data_format='channels_first')", "GroupNormalization(2)", "GroupNormalization(-1)"),
    *("GroupNormalization(4, axis=1)", "Softmax(axis=1)", "Concatenate(axis=1)([x, y])"),
    *("Masking()", "Masking(0.5)"),
)


@dataclass(frozen=True)
class Case:
    """One line, in one Keras."""

    keras: int
    line: str
    shape: tuple[int, ...]
    batch: int | None = None  # the model's own, where it must be fixed
    numbered: bool = False
    masked: bool = False

    @property
    def kind(self) -> str:
        """The class that is tried."""
        return self.line.split("(", 1)[0]

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        batch = f" in batches of {self.batch}" if self.batch else ""
        return f"{self.line} of {'masked ' if self.masked else ''}{shape}{batch}"


def public(module: Any) -> set[str]:
    """The names of a module's classes."""
    return {name for name in dir(module) if inspect.isclass(getattr(module, name))}


def cases(keras: int) -> list[Case]:
    """All lines that one Keras takes; those over sequences a second time behind a mask."""
    found: list[Case] = []
    for lines in (BOTH, TWO if keras == 2 else THREE, {VECTOR: _activated(keras, "Dense(6, activation={!r})")}):
        for shape, text in lines.items():
            found += _read(keras, text, shape, numbered=shape == INDICES)
    found += _read(keras, _activated(keras, "Activation({!r})"), IMAGE)
    found += _read(keras, NUMBERED, INDICES, numbered=True)
    found += [
        Case(keras, case.line, case.shape, masked=True)
        for case in found
        if case.shape == SEQUENCE and case.batch is None and case.line not in NEVER_MASKED
    ]
    return found


def _activated(keras: int, line: str) -> str:
    return "\n".join(line.format(name) for name in ACTIVATIONS[keras])


def _read(keras: int, text: str, shape: tuple[int, ...], *, numbered: bool = False) -> Iterator[Case]:
    for line in filter(None, map(str.strip, text.splitlines())):
        line, _, batch = line.partition(" # ")
        yield Case(keras, line, shape, int(batch) if batch else None, numbered)
