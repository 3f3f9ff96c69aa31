"""Action of the beginnings of clips: what a model predicts when it has seen a share of a clip, for ``sums.SHARES``.

The observed part of a clip, and of each of its windows, is defined in ``htt.data.loading.windows``. A window that loses
frames is predicted again from those that are left, as if the clip ended there. Block P must run again, too: tokens of
the whole clip would have seen up to ``model.pose.window`` - 1 later frames.

The encoder runs once. Blocks and heads run on 0.1 + 0.2 + ... + 0.9 = 4.5 times the frames of an evaluation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from htt.batch import Batch, Layout, Prediction
from htt.data.loading.windows import observed_frames
from htt.evaluation.sums import SHARES
from htt.model.htt import HTT


def predict(model: HTT, batch: Batch, layout: Layout, frame_counts: np.ndarray) -> tuple[Prediction, np.ndarray]:
    """Return the prediction of a batch, and the probabilities [b s a] of each window's action at each share.

    They are 0 where a window has no observed frame.

    Args:
        model: model in eval mode.
        batch: batch on the model's device.
        layout: positions of its frames, on that device.
        frame_counts: number of frames of each clip of the split.
    """
    features: list[Tensor] = []
    hook = model.features.to_width.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    try:
        prediction = model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth, layout=layout)
    finally:
        hook.remove()
    encoded, whole = replace(batch, frames=features[0]), _softmax(prediction)
    clip_frames = frame_counts[batch.clip.cpu().numpy()]
    frame = np.full(batch.valid.shape, np.iinfo(np.int64).max)
    frame[batch.valid.cpu().numpy()] = batch.frame.cpu().numpy()
    shares = []
    for share in SHARES[:-1]:
        left = (frame < observed_frames(clip_frames, share)[:, None]).sum(axis=1)
        complete = left == layout.counts
        values = np.where(complete[:, None], whole, 0.0)
        cut = np.where(complete, 0, left)
        if cut.any():
            part = encoded.first(torch.from_numpy(cut))
            values[cut > 0] = _softmax(model(part.frames, part.valid, part.intrinsics, truth=part.truth))
        shares.append(values)
    return prediction, np.stack([*shares, whole], axis=1)


def _softmax(prediction: Prediction) -> np.ndarray:
    values: np.ndarray = prediction.action_logits.detach().double().softmax(dim=-1).cpu().numpy()
    return values
