"""Whether a file fits the memory, by its header: a quarter of what is free, and values of four bytes at least."""

import pytest

from brainseg_keras.data.decode import memory
from brainseg_keras.errors import InputError

M = 10**6


@pytest.mark.parametrize(
    ("shape", "itemsize", "fits"),
    [
        ((250 * M,), 4, True),  # 1,000 MB of 4,000
        ((251 * M,), 4, False),
        ((250 * M,), 1, True),  # bytes become float32
        ((251 * M,), 1, False),
        ((125 * M,), 8, True),
        ((126 * M,), 8, False),
        ((5000, 5000, 10), 4, True),
        ((5000, 5000, 11), 4, False),
    ],
)
def test_a_quarter_of_the_free_memory_is_taken(shape, itemsize, fits, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4000 * M)
    if fits:
        memory.check_fits("a.nii", shape, itemsize=itemsize)
        return
    with pytest.raises(InputError, match=r"a\.nii says that its shape is \(.*, which is 1\.[01] GB .*, here 1\.0 GB\."):
        memory.check_fits("a.nii", shape, itemsize=itemsize)


def test_without_its_size_a_value_has_four_bytes(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4000 * M)
    memory.check_fits("a.nii", (250 * M,))
    with pytest.raises(InputError):
        memory.check_fits("a.nii", (251 * M,))


def test_the_system_is_not_asked_of_each_slice(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "free_memory", lambda: asked.append(True) or 4000 * M)
    memory.check_fits("a.tif", (512, 512, 4))
    assert not asked
    memory.check_fits("a.nii", (512, 512, 5))
    assert asked


@pytest.mark.parametrize("shape", [(0, 4), (4, -1)])
def test_a_side_of_nothing_is_a_damaged_header(shape):
    with pytest.raises(InputError, match="Its header is damaged"):
        memory.check_fits("a.nii", shape)
    memory.check_fits("a.nii", (1, 1))
