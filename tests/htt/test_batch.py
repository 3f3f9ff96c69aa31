"""Scattering valid frames into windows, and back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from htt.batch import gather, scatter, window_of_frame


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_gather_undoes_scatter(lengths):
    valid = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    values = torch.rand(int(valid.sum()), 3)
    spread = scatter(values, valid)
    assert torch.equal(gather(spread, valid), values)
    assert (spread[~valid] == 0).all()
    assert window_of_frame(valid).tolist() == [w for w, length in enumerate(lengths) for _ in range(length)]
