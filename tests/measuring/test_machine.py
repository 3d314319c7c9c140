"""What integers are computed with, and which machines' figures can be compared."""

import pytest
from made_evidence import MACHINE

from tasks.measuring.machine import comparable


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("avx", "avx2", "avx512f", "avx512_vnni", "amx_int8"), "AMX"),
        (("avx", "avx2", "avx512f", "avx512_vnni"), "AVX-512 VNNI"),
        (("avx", "avx2", "avx_vnni"), "AVX-VNNI"),
        (("avx", "avx2", "avx512f"), "AVX-512, no VNNI"),
        (("sse4_2", "avx", "avx2", "fma"), "AVX2, no VNNI"),
        (("sse4_2",), "SSE4.2"),
        (("asimd", "asimddp", "i8mm"), "NEON i8mm"),
        (("asimd", "asimddp"), "NEON dot product"),
        ((), "instruction sets not told"),
    ],
)
def test_the_best_that_integers_have_is_named(sets, words):
    machine = MACHINE.model_copy(update={"instruction_sets": sets})
    assert machine.integer_instructions == words
    assert machine.name == f"Test <Processor> ({words})"


def test_figures_of_the_same_processor_with_other_sets_are_not_compared():
    hidden = MACHINE.model_copy(update={"instruction_sets": ("avx2",)})
    assert comparable(MACHINE, MACHINE.model_copy(update={"load_after": 5.0}))
    assert not comparable(MACHINE, hidden), "a hypervisor may hide what the name promises"
    assert not comparable(MACHINE, MACHINE.model_copy(update={"processor": "Another"}))
