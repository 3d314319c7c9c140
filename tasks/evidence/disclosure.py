"""What evidence says about itself: how each figure was made, and what it does not know."""

from collections.abc import Sequence

from tasks.data.sample import DRAWN
from tasks.evidence.evidence import FileEvidence, Scored
from tasks.evidence.measured_on import Measures
from tasks.formats.parity import FEW
from tasks.measuring.agreement import FLOAT
from tasks.measuring.intervals import BLOCKS, RESAMPLES, wilson
from tasks.measuring.machine import Machine
from tasks.measuring.measure import Measure
from tasks.measuring.timing import BETWEEN, VISITS

FEW_EXAMPLES = 500  # fewer cannot tell a drop of 1% from none
FEW_OF_A_CLASS = 50  # fewer cannot tell a recall of 95% from one of 85%
SHORT_CALL = 20e-6  # seconds; shorter ones move more from one sitting to the next than within one
FEW_ROUNDS = 1000  # fewer leave ten calls or less beyond the p99
NOT_RUN = (
    "Files for tensorrt were not run in TensorRT, which needs a GPU. Their answers and times are those of ONNX Runtime "
    "on this machine's processor for the same file, and their integer share is a prediction: a static check of the "
    "file against TensorRT's documented rules."
)


def methods(measures: Measures, threads: int, batch: int, warmup: int) -> dict[str, str]:
    """How each kind of figure was made, by its name; of several outputs scores have the output's name behind theirs."""
    several = {name: _scores(measure) for name, measure in measures.items()}
    first, *_ = measures.values()
    scores = {
        f"{kind} of {name}" if name else kind: text for name, each in several.items() for kind, text in each.items()
    }
    return {"samples": _samples(first), **scores, **_files(threads, batch, warmup)}


def _samples(measure: Measure) -> str:
    classes = measure.problem == "classification" and measure.y.ndim == 1
    return (
        "Where some examples stand for all (ranges of integers, how much a channel matters, a limit of "
        f"examples to measure on) they are {DRAWN}{', of each class its share' if classes else ''}."
    )


def _scores(measure: Measure) -> dict[str, str]:
    metric, share = measure.metric, measure.share
    over = "test examples" if measure.groups is None else "groups of test examples (data.group)"
    bootstrap = f"BCa bootstrap (Efron 1987) over {over}, {RESAMPLES} resamples"
    if metric.together is not None:
        bootstrap += f", the metric reckoned anew for each, and a jackknife of {BLOCKS} blocks"
    worse = "less" if metric.lower else "more"
    return {
        "score": f"{metric.text}; over the test examples, {worse} is better.",
        "score interval": "Wilson's score interval (Wilson 1927)." if share else f"{bootstrap}.",
        "drop": "By how much this file's score is worse than that of the teacher in Keras, as it was brought if it "
        "was, on the same examples: what a conversion costs is in it.",
        "drop interval": "Tango's score interval for paired proportions (Tango 1998)."
        if share
        else f"{bootstrap}, of the differences in pairs.",
    }


def _files(threads: int, batch: int, warmup: int) -> dict[str, str]:
    return {
        "parity": "Outputs of the file against those of the Keras model that it was made from, over all test examples. "
        f"Evidence is only made of files that answer as it does: in float32 to {FLOAT:g} of each output's own range, "
        "in integers to a few steps in the mean where the model has their ranges, and as much so when the first "
        f"{FEW} examples are asked one and two at a time. By how much other files differ is measured and not limited.",
        "latency": f"Batch 1, {threads} {'thread' if threads == 1 else 'threads'}, always the same test example; one "
        "target's files in turn, in an order drawn anew each round, each call behind an untimed one, after up to "
        f"{warmup} rounds of warm-up, in up to {VISITS} visits, for each of which the files are opened anew, Python's "
        "garbage collector off, time.perf_counter_ns.",
        "speed-up": "Median latency of the teacher's float file for the same target over this file's; expanded "
        f"percentile bootstrap (Hesterberg 2015) over visits, {RESAMPLES} resamples; a deviation of {BETWEEN:.0%} "
        "between sittings is added in quadrature.",
        "throughput": f"{batch} over the median time of a call with batch {batch}, in turn like latency.",
        "size": "Bytes of the model's files; gzip at level 6, each file by itself.",
        "parameters": "Weights of the Keras model, batch-norm statistics included, quantization ranges left out; "
        "non-zeros are counted before rounding to integers, which may make more of them zero.",
        "multiply-accumulates": "From the shapes in the graph that the runtime made of the file, for one example; the "
        "integer share is that of the kernels which compute in integers. For tensorrt both are read from the file, and "
        "which kernels those will be follows from TensorRT's documented rules.",
        "same integers": "From a file's weights: a kernel of an x86 processor without VNNI adds the products of two of "
        "them in 16 bits, and cannot saturate if no two sum to more than 128 on one side of zero.",
    }


def limits(
    files: Sequence[FileEvidence],
    measures: Measures,
    available: int,
    machine: Machine,
    confidence: float,
    rounds: int,
) -> tuple[str, ...]:
    """What these figures do not say, in sentences.

    Args:
        files: what was measured.
        measures: what measured them, of each output.
        available: test examples that there are.
        machine: where it was measured.
        confidence: of the intervals.
        rounds: of timing that were asked for.

    """
    sentences = [
        "Intervals tell how figures would move with other test examples from the same source. They do not cover "
        "another training seed, data from elsewhere, or data that change with time.",
        f"Each interval holds with {100 * confidence:g}% confidence by itself; that all of them hold is less likely.",
        "Whoever chooses between many versions by this test split needs another one for the last word.",
    ]
    measure, *_ = measures.values()
    examples = len(measure.y)
    if measure.groups is not None:
        count = int(measure.groups.max()) + 1
        sentences.append(
            f"The test examples stand in {count} groups, which intervals are over: new examples of the same groups, "
            "such as of a known patient, may be answered better."
        )
    if examples < available:
        sentences.append(f"Measured on {examples:,} of {available:,} test examples, {DRAWN}.")
    if examples < FEW_EXAMPLES:
        sentences.append(f"{examples} test examples are few: small drops cannot be told from none.")
    for name, each in measures.items():
        if each.problem == "classification":
            scored = files[0].heads[name] if files[0].heads else files[0]
            sentences += _rare_classes(scored, confidence)
    sentences += [
        "Latency is the model alone, in this process, asked the same example again and again: no decoding, no server, "
        "no network. Each timed call comes right behind another of the same file, so that caches are warm.",
        f"Times hold for this processor with its instruction sets ({machine.integer_instructions}) and these library "
        "versions; on another one, another file may be the fastest.",
        "Memory, energy, and the time to load a file were not measured.",
    ]
    if machine.virtual:
        sentences.append(
            "The machine is virtual: what its neighbours did is in the times and cannot be seen from inside."
        )
    busiest = max(machine.load_before, machine.load_after)
    if busiest > 1.5 + machine.usable_cores / 2:
        sentences.append(f"The machine was busy: load average {busiest:g} on {machine.usable_cores} usable cores.")
    made = min(file.latency.rounds for file in files)
    if made < rounds:
        sentences.append(f"Only {made} of {rounds} rounds of timing were made, because the time limit was reached.")
    if made < FEW_ROUNDS:
        sentences.append(f"With {made} rounds, p99 is nearly the slowest call that was seen.")
    if any(file.latency.p50 < SHORT_CALL for file in files):
        sentences.append("Calls of a few microseconds vary more between runs than their intervals say.")
    if any(file.target == "savedmodel" for file in files):
        sentences.append(
            "TensorFlow takes its number of threads once in a process: files for savedmodel may have used more."
        )
    if any(file.target == "tensorrt" for file in files):
        sentences.append(NOT_RUN)
    return (*sentences, *_integers(files))


def _rare_classes(scored: Scored, confidence: float) -> list[str]:
    """Says how little the rarest class tells, where it is rare."""
    rows = [sum(row) for row in scored.confusion]
    rarest = min((row for row in rows if row), default=FEW_OF_A_CLASS)
    if rarest >= FEW_OF_A_CLASS:
        return []
    low = wilson(rarest, rarest, confidence).low
    number = f"{rarest} test {'example' if rarest == 1 else 'examples'}"
    return [f"The rarest class has {number}: even with all of them right, its recall may be as low as {low:.1%}."]


def _integers(files: Sequence[FileEvidence]) -> list[str]:
    """What integer kernels do on other processors, by file."""
    sentences = []
    integers = [file for file in files if file.audit.integer_macs]
    for file in integers:
        if file.audit.everywhere is False:
            sentences.append(
                f"The {file.role} {file.target} {file.precision} file answers otherwise on other processors: "
                f"{file.audit.apart_in_words}."
            )
            if file.audit.saturating:
                sentences[-1] += (
                    " Slimline opens it with unsigned weights there, which is right and slower; in other servers ONNX "
                    "Runtime has session.x64quantprecision for it."
                )
    unknown = [file for file in integers if file.audit.everywhere is None]
    if unknown:
        sentences.append(
            f"Whether {', '.join(f'the {file.role} {file.target} file' for file in unknown)} has the same integers on "
            "other processors was not looked at."
        )
    if integers and not sentences:
        sentences.append(
            "Integers are the same on x86 with VNNI and without, and on ARM64, as no kernel can saturate and none "
            "rounds in another way. What is computed in float beside them, such as a softmax, may differ in its last "
            "digits."
        )
    return sentences
