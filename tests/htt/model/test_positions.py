import math

import torch

from htt.model.positions import sinusoid


def test_sinusoid_alternates_sines_and_cosines():
    table = sinusoid(3, 4, like=torch.zeros(()))
    slow = 1 / math.sqrt(10_000)
    expected = [
        [0.0, 1.0, 0.0, 1.0],
        [math.sin(1), math.cos(1), math.sin(slow), math.cos(slow)],
        [math.sin(2), math.cos(2), math.sin(2 * slow), math.cos(2 * slow)],
    ]
    torch.testing.assert_close(table, torch.tensor(expected))


def test_sinusoid_has_given_length_width_and_type():
    table = sinusoid(700, 5, like=torch.zeros((), dtype=torch.bfloat16))
    assert table.shape == (700, 5)
    assert table.dtype == torch.bfloat16
