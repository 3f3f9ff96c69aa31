"""A checkpoint of an untrained tiny model, and the clips it is tried on."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from htt import console
from htt.data.prepare import prepare
from htt.model.htt import HTT
from htt.testing import tiny_config
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress
from htt.training.tasks import open_splits


def _save(folder, config, info=None, metrics=None, clips=None):
    """A checkpoint of an untrained model."""
    torch.manual_seed(0)
    if info is None:
        prepare(config, workers=1)
        info = open_splits(config).info
    model = HTT.without_weights(config.model, info)
    optimizer = optim.optimizer(config.optim, model.parameters())
    return checkpoint.save(folder, model, optimizer, Progress(1), config, info, metrics or {}, clips)


@pytest.fixture(scope="session")
def save():
    return _save


@pytest.fixture(scope="session")
def one_clip(cache):
    """A configuration whose validation split is one clip, in several windows: two spaced frames, three of block A."""
    return tiny_config(**{"data.synthetic.val_clips": 1, "data.spacing": 2, "model.action.length": 3,
                          "model.pose.window": 2})  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory, one_clip):
    return _save(tmp_path_factory.mktemp("trained") / "checkpoint", one_clip)


@pytest.fixture(scope="session")
def clip(one_clip):
    """Frames [n h w 3] as the evaluation decodes them, and intrinsics of the validation clip."""
    clips = open_splits(one_clip).val
    images = clips.blank(clips.frame_count(0))
    clips.decode_into(images, 0, np.arange(clips.frame_count(0)))
    return images, clips.intrinsics[0]


def _encode(path, frames, rate, *, codec="libx264", pixels="yuv420p", times=None, aspect=None, index_first=False):
    """Write frames [n h w 3] as a video, nearly without loss, and return its path."""
    options = {"libx264": {"crf": "4"}, "mpeg4": {"q": "1"}}.get(codec, {})
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        if codec in ("mpeg4", "mjpeg"):
            stream.bit_rate = 20_000_000
        if aspect is not None:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 90_000), round(90_000 * times[index])
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def encode():
    return _encode


@pytest.fixture
def run_command(capsys):
    """Run a command, a module with ``Options`` and ``main``, and return what it prints on one line."""

    def run(module, *words, code=0):
        words = [str(word) for word in words]
        if code:
            with pytest.raises(SystemExit) as left:
                console.run(module.Options, module.main, words)
            assert left.value.code == code
        else:
            console.run(module.Options, module.main, words)
        shown = capsys.readouterr()
        return " ".join((shown.out + shown.err).split())

    return run
