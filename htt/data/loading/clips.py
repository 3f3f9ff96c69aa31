"""Clips of a split, read from shards."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg
import torch
from jaxtyping import UInt8
from torch import Tensor

from htt.data.loading import folder as folders
from htt.data.loading import targets
from htt.data.loading.folder import Folder
from htt.data.loading.targets import Targets
from htt.data.shards import arrow, labels
from htt.data.sources import ClipRecord, Encoded
from htt.errors import DataError
from htt.info import UNKNOWN


@dataclass(frozen=True)
class _View:
    """Memory-mapped frames of one clip."""

    numbers: np.ndarray
    joints_m: np.ndarray
    hand_valid: np.ndarray
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    """JPEGs of all frames, concatenated."""
    ends: Sequence[int] = ()
    """[t + 1] start of each JPEG, and end of the last one, bytes; empty without JPEGs."""
    encoded: Encoded | None = None
    """Features in place of the JPEGs."""
    hand_types: np.ndarray | None = None
    """[t hands] int64, or None if the shards do not hold them."""

    def jpeg(self, frame: int) -> memoryview:
        return self.data[self.ends[frame] : self.ends[frame + 1]]


def open_split(root: str | Path, split: str) -> Clips:
    """Return the clips of a split of a folder of shards.

    Raises:
        DataError: there are no shards or no such split, a shard is missing or truncated, or a clip has no frames.
        StorageError: the shards are in an object store, and it does not answer.
    """
    return Clips(folders.open_folder(Path(root)), split)


class Clips(Sequence[ClipRecord]):
    """Clips of a split. Can be pickled and used after a fork, because files are opened where they are read."""

    def __init__(self, folder: Folder, split: str) -> None:
        self._folder, self._shards = folder, folder.manifest.shards(split)
        self.root, self.split = folder.name, split
        self.info, self._wanted = folder.manifest.info, folder.manifest.numbers(split)
        self.encoding, self.poses_only = folder.manifest.encoding, folder.manifest.poses_only
        self._rows = [(shard, row) for shard, entry in enumerate(self._shards) for row in range(entry.clips)]
        self._readers: dict[int, pa.RecordBatchFileReader] = {}
        self._views: dict[int, _View] = {}
        self._targets: dict[int, Targets] = {}
        self._read_labels()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, clip: int) -> ClipRecord:  # type: ignore[override]
        """Return a whole clip, as it was written."""
        if not -len(self) <= clip < len(self):
            raise IndexError(clip)
        clip %= len(self)
        view = self._view(clip)
        return ClipRecord(
            id=self.ids[clip],
            subject=self.subjects[clip],
            action=int(self.action[clip]),
            object=int(self.object[clip]),
            intrinsics=self.intrinsics[clip],
            width=self.info.width,
            height=self.info.height,
            frame_numbers=view.numbers.tolist(),
            jpegs=[bytes(view.jpeg(frame)) for frame in range(self.frame_count(clip))] if view.ends else [],
            joints_m=view.joints_m,
            hand_valid=view.hand_valid,
            encoded=view.encoded,
            group=self.groups[clip],
            hand_types=view.hand_types,
        )

    def only(self, chosen: Sequence[int]) -> Clips:
        """Return a subset of the clips."""
        some = copy.copy(self)
        some._rows = [self._rows[clip] for clip in chosen]
        for name in ("ids", "subjects", "groups"):
            setattr(some, name, [getattr(self, name)[clip] for clip in chosen])
        for name in ("action", "object", "intrinsics", "frame_counts"):
            setattr(some, name, getattr(self, name)[list(chosen)])
        some._readers, some._views, some._targets = {}, {}, {}
        return some

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}, "_views": {}, "_targets": {}}

    def frame_count(self, clip: int) -> int:
        """Return the number of frames of a clip."""
        return int(self.frame_counts[clip])

    def joints(self, clip: int) -> np.ndarray:
        """Return the joints [t j 3] of a clip: camera space, metres; undefined where the hand is not valid."""
        return self._view(clip).joints_m

    def targets(self, clip: int) -> Targets:
        """Return the hand targets of all frames of a clip."""
        made = self._targets.get(clip)
        if made is None:
            made = targets.make(self.joints(clip), self.hand_valid(clip), self.intrinsics[clip])
            self._targets[clip] = made
        return made

    def hand_valid(self, clip: int) -> np.ndarray:
        """Return [t hands], True where the hand is in the frame."""
        return self._view(clip).hand_valid

    def hand_types(self, clip: int) -> np.ndarray | None:
        """Return [t hands] what each hand does, or -1 if unknown; None if the data do not name it."""
        return self._view(clip).hand_types

    def frame_numbers(self, clip: int) -> np.ndarray:
        """Return [t] the frame numbers used by the source."""
        return self._view(clip).numbers

    def decode(self, clip: int, frames: Sequence[int] | np.ndarray) -> UInt8[Tensor, "n 3 h w"]:
        """Decode the images of some frames of a clip, channels last in memory.

        Raises:
            DataError: an image is broken; names clip and frame.
        """
        images = self.blank(len(frames))
        self.decode_into(images, clip, frames)
        return as_frames(images)

    def blank(self, count: int) -> np.ndarray:
        """Return an uninitialized array for ``count`` images: [n h w 3] uint8."""
        return np.empty((count, self.info.height, self.info.width, 3), np.uint8)

    def decode_into(
        self, images: np.ndarray, clip: int, frames: Sequence[int] | np.ndarray, pool: Executor | None = None
    ) -> None:
        """Decode some frames of a clip into [n h w 3] ``images``, in the threads of a pool if one is given.

        The decoder releases the GIL. See ``decode``.
        """
        if self.encoding or self.poses_only:
            held = "features" if self.encoding else "poses"
            raise DataError(f"Expected a folder of frames; {self.root} holds {held}, which have no images.")
        view, decode, shape = self._view(clip), simplejpeg.decode_jpeg, images.shape[1:]
        data, ends = view.data, view.ends

        def decode_one(pair: tuple[np.ndarray, int]) -> None:
            image, frame = pair
            try:
                decoded_shape = decode(data[ends[frame] : ends[frame + 1]], "RGB", buffer=image, strict=True).shape
            except ValueError as error:
                raise self._broken(clip, frame, str(error)) from error
            if decoded_shape != shape:
                size = f"{decoded_shape[1]}x{decoded_shape[0]} px"
                raise self._broken(clip, frame, f"it is {size}, not {shape[1]}x{shape[0]}")

        pairs = zip(images, _integers(frames), strict=True)
        for _ in pool.map(decode_one, pairs) if pool else map(decode_one, pairs):
            pass

    def encoded(self, clip: int) -> Encoded:
        """Return the features of a clip of a folder of features."""
        encoded = self._view(clip).encoded
        assert encoded is not None, "the shards hold frames"
        return encoded

    def expect(self, chosen: np.ndarray) -> None:
        """Announce the clips to be read, in this order, so that missing shards are downloaded in the background."""
        if self._folder.streams:
            shards = [self._rows[clip][0] for clip in chosen.tolist()]
            self._folder.expect([self._shards[shard] for shard, _ in itertools.groupby(shards)])

    def _read_labels(self) -> None:
        if not self._shards:
            raise DataError(f"No clips in split '{self.split}' of {self.root}. Convert the data again.")
        table = self._label_table()
        made = self._folder.manifest
        labels.check(table, made, self.split, f"{self.root}/{made.labels.file}" if made.labels else self.root)
        self.ids: list[str] = table["id"].to_pylist()
        self.subjects: list[str] = table["subject"].to_pylist()
        self.groups: list[str] = table["group"].to_pylist()
        self.action: np.ndarray = table["action"].to_numpy().astype(np.int64)
        self.object: np.ndarray = table["object"].to_numpy().astype(np.int64)
        self.intrinsics: np.ndarray = np.array(table["intrinsics"].to_pylist(), np.float64).reshape(-1, 3, 3)
        self.frame_counts: np.ndarray = table["frames"].to_numpy().astype(np.int64)

    def _label_table(self) -> pa.Table:
        """Return the labels of all clips, from the labels file or, in a folder without one, from every shard."""
        table = self._folder.labels(self.split)
        if table is not None:
            self._folder.expect_later(self._shards)
            return table
        self._folder.expect(self._shards)
        tables = (
            labels.of_reader(self._folder.open(shard, labels.READ), self._folder.file(shard)) for shard in self._shards
        )
        return pa.concat_tables(tables)

    def _view(self, clip: int) -> _View:
        view = self._views.get(clip)
        if view is None:
            shard, row = self._rows[clip]
            file = self._folder.file(self._shards[shard])
            batch = arrow.row(self._reader(shard), row, file)
            try:
                self._check_row(clip, batch)
                view = self._views[clip] = _view_of(batch)
                self._check_view(clip, view)
            except ValueError as error:
                raise DataError(
                    f"Clip {self.ids[clip]} in {file} does not match its manifest and labels: {error}. Convert the "
                    "data again."
                ) from error
        return view

    def check_frames(self) -> None:
        """Check the metadata of every frame, without decoding any image.

        Raises:
            DataError: a clip does not match the manifest and the labels; names clip and file.
        """
        for clip in range(len(self)):
            self._view(clip)

    def _check_row(self, clip: int, batch: pa.RecordBatch) -> None:
        """Compare the metadata of a clip in a shard with the labels and the manifest.

        Raises:
            ValueError: a value differs; names it.
        """
        expected = {
            "id": self.ids[clip],
            "action": int(self.action[clip]),
            "object": int(self.object[clip]),
            "width": self.info.width,
            "height": self.info.height,
            "hands": self.info.hands,
        }
        if "group" in batch.schema.names:  # not in shards made before there were groups
            expected["group"] = self.groups[clip]
        for name, value in expected.items():
            stored = batch.column(name)[0].as_py()
            if stored != value:
                raise ValueError(f"its {name} is {stored}, not {value}")

    def _check_view(self, clip: int, view: _View) -> None:
        """Check the sizes and frame numbers of a clip.

        Raises:
            ValueError: a value is invalid; names it.
        """
        frames, hands = self.frame_count(clip), self.info.hands
        images = frames if self.poses_only else len(view.ends) - 1
        if view.encoded:
            images = view.encoded.features.shape[1]
        stored = (images, len(view.numbers), view.hand_valid.shape, view.joints_m.shape)
        if stored != (frames, frames, (frames, hands), (frames, self.info.joints, 3)):
            raise ValueError(f"its images, numbers, hands and joints are {stored}, not those of {frames} frames")
        if (self.encoding is None) != (view.encoded is None):
            raise ValueError(f"it holds {'features' if view.encoded else 'frames'}, unlike its manifest")
        if self.poses_only and view.ends:
            raise ValueError("it holds images, unlike its manifest")
        self._check_hand_types(view.hand_types, (frames, hands))
        wanted, numbers = self._wanted.get(self.ids[clip]), view.numbers
        if (np.diff(numbers) <= 0).any():
            raise ValueError("its frame numbers are not ascending")
        if wanted is not None and (numbers[0] < wanted.start or numbers[-1] >= wanted.stop):
            raise ValueError(f"its frames are {numbers[0]} to {numbers[-1]}, not {wanted.start} to {wanted.stop - 1}")

    def _check_hand_types(self, types: np.ndarray | None, shape: tuple[int, int]) -> None:
        """Check the hand types of a clip; see ``_check_view``."""
        names = self.info.hand_types
        if (types is None) == bool(names):
            raise ValueError(f"it {'holds no' if types is None else 'holds'} hand types, unlike its manifest")
        if types is not None and (types.shape != shape or types.min() < UNKNOWN or types.max() >= len(names)):
            raise ValueError(f"its hand types must be {list(shape)} numbers from -1 to {len(names) - 1}")

    def _reader(self, shard: int) -> pa.RecordBatchFileReader:
        if shard not in self._readers:
            if not self._folder.holds_all:  # a mapped shard cannot be removed from the cache
                self._readers, self._views = {}, {}
            self._readers[shard] = self._folder.open(self._shards[shard])
        return self._readers[shard]

    def _broken(self, clip: int, frame: int, reason: str) -> DataError:
        file = self._folder.file(self._shards[self._rows[clip][0]])
        number = int(self._view(clip).numbers[frame])
        return DataError(
            f"Invalid JPEG: frame {number} of clip {self.ids[clip]} in {file}: {reason}. Convert the data again."
        )


def as_frames(images: np.ndarray) -> UInt8[Tensor, "n 3 h w"]:
    """Return [n h w 3] images as the frames tensor of a batch, without copying: channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _view_of(batch: pa.RecordBatch) -> _View:
    column = {name: batch.column(name) for name in batch.schema.names}
    images: dict[str, Any]
    if "features" in column:
        shifts_px = column["shifts_px"].flatten().to_numpy().reshape(-1, 2)
        count = len(column["frame_numbers"].flatten())
        features = column["features"].flatten().to_numpy().reshape(len(shifts_px), count, -1)
        images = {"encoded": Encoded(features, shifts_px)}
    elif "jpegs" in column:
        jpegs = column["jpegs"].flatten()
        _, ends, data = jpegs.buffers()
        count = len(jpegs)
        images = {
            "data": memoryview(data if data is not None else b"").cast("B"),
            "ends": np.frombuffer(ends, np.int64)[jpegs.offset : jpegs.offset + count + 1].tolist(),
        }
    else:
        images, count = {}, len(column["frame_numbers"].flatten())
    return _View(
        numbers=column["frame_numbers"].flatten().to_numpy(),
        joints_m=column["joints_m"].flatten().to_numpy().reshape(count, -1, 3),
        hand_types=_hand_types(column),
        hand_valid=_flags(column["hand_valid"].flatten().to_numpy()).reshape(count, column["hands"][0].as_py()),
        **images,
    )


def _hand_types(column: Mapping[str, pa.Array]) -> np.ndarray | None:
    if "hand_types" not in column:
        return None
    flat: np.ndarray = column["hand_types"].flatten().to_numpy().astype(np.int64)
    return flat.reshape(-1, column["hands"][0].as_py())


def _flags(values: np.ndarray) -> np.ndarray:
    if values.size and values.max() > 1:
        raise ValueError(f"hand_valid must be 0 or 1, not {values.max()}")
    return values.astype(bool)


def _integers(frames: Sequence[int] | np.ndarray) -> Sequence[int]:
    listed: Sequence[int] = frames.tolist() if isinstance(frames, np.ndarray) else frames
    return listed
