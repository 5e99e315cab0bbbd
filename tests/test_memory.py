"""Whether a file fits the memory, by its header: a quarter of what is free, and values of four bytes at least."""

import pytest

from brainseg_keras.data import memory
from brainseg_keras.errors import InputError


@pytest.mark.parametrize(
    ("shape", "itemsize", "fits"),
    [
        ((250,), 4, True),  # 1,000 bytes of 4,000
        ((251,), 4, False),
        ((250,), 1, True),  # bytes become float32
        ((251,), 1, False),
        ((125,), 8, True),
        ((126,), 8, False),
        ((5, 5, 10), 4, True),
        ((5, 5, 11), 4, False),
    ],
)
def test_a_quarter_of_the_free_memory_is_taken(shape, itemsize, fits, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4000)
    if fits:
        memory.check_fits("a.nii", shape, itemsize=itemsize)
        return
    with pytest.raises(InputError, match=r"a\.nii says that its shape is \(.*a quarter of the free memory"):
        memory.check_fits("a.nii", shape, itemsize=itemsize)


def test_without_its_size_a_value_has_four_bytes(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4000)
    memory.check_fits("a.nii", (250,))
    with pytest.raises(InputError):
        memory.check_fits("a.nii", (251,))


@pytest.mark.parametrize("shape", [(0, 4), (4, -1)])
def test_a_side_of_nothing_is_a_damaged_header(shape):
    with pytest.raises(InputError, match="Its header is damaged"):
        memory.check_fits("a.nii", shape)
    memory.check_fits("a.nii", (1, 1))
