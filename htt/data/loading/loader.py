"""Batches: the decoded frames of some windows, with their targets and labels.

Images are decoded directly into the batch and stay 8-bit; they become floats on the device.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from htt.batch import Batch
from htt.config import Config
from htt.data.loading import order
from htt.data.loading.clips import Clips, as_frames
from htt.data.loading.windows import Window, Windows, draw_observed, evaluation_windows, training_windows
from htt.errors import ClusterError, HTTError
from htt.info import DataInfo

EVALUATION_BATCHES = 8
"""Largest size of an evaluation batch in units of train.batch_size: no gradients are kept, so memory allows more."""
PREFETCHED = 2
"""Number of batches that each process of runtime.loader_workers prepares ahead."""
SILENT_S = 600.0
"""Time limit for a batch from such a process, s; longer than the retries of an object store."""
SHARED = Path("/dev/shm")
"""Shared memory file system through which the processes pass batches."""
AHEAD_BYTES = 21
"""Size of a joint of a later frame in a batch: its point, its pixels, and whether it is valid, bytes."""
EVALUATION_PIXELS = 2**24
"""Largest size of an evaluation batch in pixels: about 128 frames of 480x270."""


COPIES = 2**8
"""Number of copies of a clip that a chosen window can name; more than ``data.augment.views`` allows."""


@dataclass(frozen=True)
class Assembler:
    """Builder of batches from windows. Can be pickled, so that other processes can use it.

    A window is chosen by its index, plus ``len(windows)`` for each augmented copy of its clip before the wanted one;
    copy 0 is the plain clip. For a window without its last frames, ``COPIES`` times ``len(windows)`` are added for each
    of these.
    """

    clips: Clips
    windows: Windows
    images: bool = True
    """False to leave out images and features, for a model without an image encoder."""
    ahead: int = 0
    """Frames after each frame whose joints are in the batch too, for ``model.forecast.frames``."""

    def __call__(self, chosen: Sequence[int] | np.ndarray, pool: Executor | None = None) -> Batch:
        """Return the batch of the ``chosen`` windows, in that order; images are decoded in the threads of a pool.

        Raises:
            DataError: an image is broken; names clip and frame.
        """
        codes, indices = np.divmod(np.asarray(chosen), len(self.windows))
        hidden, copies = np.divmod(codes, COPIES)
        picked = [
            self.windows[index].without_last(count)
            for index, count in zip(indices.tolist(), hidden.tolist(), strict=True)
        ]
        counts = np.array([window.count for window in picked])
        targets = [self.clips.targets(window.clip).of(window.part) for window in picked]
        joints_px = np.concatenate([target.joints_px for target in targets])
        moved_px = np.zeros((len(joints_px), 1, 2), np.float32)
        if not self.images:
            frames = torch.zeros(len(joints_px), 0)
        elif self.clips.encoding:
            frames, shifts_px = self._features(picked, copies)
            moved_px = np.repeat(shifts_px, counts, axis=0)[:, None]
            joints_px = joints_px + moved_px
        else:
            frames = self._images(picked, pool)
        clip = np.array([window.clip for window in picked])
        seeds = [view_seed(self.clips.ids[each], copy) for each, copy in zip(clip, copies.tolist(), strict=True)]
        return Batch(
            frames=frames,
            valid=torch.from_numpy(np.arange(counts.max()) < counts[:, None]),
            intrinsics=torch.from_numpy(self.clips.intrinsics[clip].astype(np.float32)),
            joints_m=torch.from_numpy(np.concatenate([target.joints_m for target in targets])),
            joints_px=torch.from_numpy(joints_px),
            joint_valid=torch.from_numpy(np.concatenate([target.joint_valid for target in targets])),
            object=torch.from_numpy(np.repeat(self.clips.object[clip], counts)),
            action=torch.from_numpy(self.clips.action[clip]),
            clip=torch.from_numpy(clip),
            frame=torch.from_numpy(np.concatenate([window.frames for window in picked])),
            view=torch.tensor(seeds),
            labelled=torch.from_numpy(self.clips.labelled[clip]),
            hand_type=self._hand_types(picked),
            **(self._ahead(picked, moved_px) if self.ahead else {}),
        )

    def _hand_types(self, picked: Sequence[Window]) -> Tensor | None:
        """Return [n hands] the hand types of the windows' frames, or None if the data do not name them."""
        known = [(self.clips.hand_types(window.clip), window.part) for window in picked]
        types = [of_clip[part] for of_clip, part in known if of_clip is not None]
        return torch.from_numpy(np.concatenate(types)) if types else None

    def _ahead(self, picked: Sequence[Window], moved_px: np.ndarray) -> dict[str, Tensor]:
        """Return the joints of each frame and of those after it, in images that are moved like that of the frame.

        A frame after the last one of its clip, or one that was left out of it, has no valid joints.
        """
        found = []
        for window in picked:
            numbers = self.clips.frame_numbers(window.clip)
            wanted = numbers[window.frames][:, None] + np.arange(self.ahead + 1)
            frames = np.searchsorted(numbers, wanted).clip(max=len(numbers) - 1)
            found.append((self.clips.targets(window.clip).of(frames), numbers[frames] == wanted))
        valid = np.concatenate([target.joint_valid & exists[..., None] for target, exists in found])
        joints_m, joints_px = (
            np.concatenate([getattr(each, name) for each, _ in found]) for name in ("joints_m", "joints_px")
        )
        arrays = {"ahead_m": joints_m, "ahead_px": joints_px + moved_px[:, None], "ahead_valid": valid}
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def _images(self, picked: Sequence[Window], pool: Executor | None) -> Tensor:
        images = self.clips.blank(sum(window.count for window in picked))
        first = 0
        for window in picked:
            self.clips.decode_into(images[first : first + window.count], window.clip, window.frames, pool)
            first += window.count
        return as_frames(images)

    def _features(self, picked: Sequence[Window], copies: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return the stored features of the windows' frames, and the shift of each window's images, px."""
        encoded = [self.clips.encoded(window.clip) for window in picked]
        of_windows = zip(encoded, picked, copies, strict=True)
        features = [clip.features[copy, window.part] for clip, window, copy in of_windows]
        shifts_px = np.stack([clip.shifts_px[copy] for clip, copy in zip(encoded, copies, strict=True)])
        return torch.from_numpy(np.concatenate(features)), shifts_px


@functools.lru_cache(maxsize=2**16)
def view_seed(clip: str, copy: int) -> int:
    """Return the seed of an augmented copy of a clip, given its identifier; 0 for copy 0, the plain clip."""
    return int.from_bytes(hashlib.sha256(f"{copy} {clip}".encode()).digest()[:7], "big") if copy else 0


REMEDY = (
    "Give the container more shared memory (docker run --shm-size=8g), or decode in the training process: "
    "runtime.loader_workers=0."
)


class Decoder:
    """Runner of an assembler, in other processes, in a thread, or in the calling thread.

    With ``processes``, batches are decoded in that many processes. Otherwise they are decoded in this process: in a
    thread, one batch ahead, if a device computes meanwhile; else in the calling thread, because a thread that shares
    the CPU cores with the computation costs about a tenth of the speed. Images are decoded in as many threads as torch
    uses, which is the number of CPUs that a worker has. For a GPU, batches are in pinned memory.
    """

    def __init__(self, assembler: Assembler, processes: int = 0, ahead: bool | None = None) -> None:
        self.assembler = assembler
        self._pin = torch.cuda.is_available()
        self._ahead = self._pin if ahead is None else ahead
        self._steps: list[np.ndarray] = []
        threads = torch.get_num_threads()
        in_threads = threads > 1 and not processes and not assembler.clips.encoding
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode") if in_threads else None
        self._loader = self._processes(processes) if processes else None

    def batches(self, steps: order.Steps) -> Iterator[Batch]:
        """Return an iterator over the batches of some steps, in order. Use one iterator at a time."""
        if steps:
            self.assembler.clips.expect(self.assembler.windows.clips_of(np.concatenate(steps)))
        if self._loader is not None:
            self._check_room(steps)
            self._steps[:] = steps
            return self._next_from_processes(self._loader)
        return self._next_in_thread(steps) if self._ahead else map(self._batch, steps)

    def _batch(self, step: np.ndarray) -> Batch:
        batch = self.assembler(step, self._pool)
        return batch.pin_memory() if self._pin else batch

    def _next_from_processes(self, loader: torch.utils.data.DataLoader[Batch]) -> Iterator[Batch]:
        try:
            for batch in loader:
                if isinstance(batch, HTTError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader" not in str(error):  # raised by the code that uses the batches
                raise
            raise ClusterError(
                f"No batch from the {loader.num_workers} processes of runtime.loader_workers: {error} {REMEDY}"
            ) from error

    def _check_room(self, steps: order.Steps) -> None:
        """Raise a ``ClusterError`` if shared memory has no room for the batches being prepared."""
        if self._loader is None or not steps or not SHARED.is_dir():
            return
        info, counts = self.assembler.clips.info, self.assembler.windows.frame_count
        encoding = self.assembler.clips.encoding
        frame = 2 * encoding.width if encoding else 3 * info.width * info.height * self.assembler.images
        frame += self.assembler.ahead * info.joints * AHEAD_BYTES
        batch = max(int(counts[step % len(counts)].sum()) for step in steps) * frame
        needed, free = self._loader.num_workers * PREFETCHED * batch, shutil.disk_usage(SHARED).free
        if needed > free:
            raise ClusterError(
                f"Not enough shared memory: the batches of {self._loader.num_workers} processes of "
                f"runtime.loader_workers need {needed / 2**20:,.0f} MB, and {SHARED} has {free / 2**20:,.0f} MB free. "
                f"{REMEDY}"
            )

    def _next_in_thread(self, steps: order.Steps) -> Iterator[Batch]:
        """Yield batches, and decode the next one in a thread meanwhile: the JPEG decoder releases the GIL."""
        with ThreadPoolExecutor(1, thread_name_prefix="assemble") as thread:
            following = None
            for step in steps:
                ready, following = following, thread.submit(self._batch, step)
                if ready is not None:
                    yield ready.result()
            if following is not None:
                yield following.result()

    def _processes(self, count: int) -> torch.utils.data.DataLoader[Batch]:
        return torch.utils.data.DataLoader(
            _Assembled(self.assembler),
            batch_size=None,
            sampler=self._steps,
            num_workers=count,
            collate_fn=_as_it_is,
            persistent_workers=True,
            prefetch_factor=PREFETCHED,
            timeout=SILENT_S,
            pin_memory=self._pin,
            multiprocessing_context="forkserver",  # a fork of a process with threads may hang
            generator=torch.Generator(),  # leave the global generator to the training
        )


class _Assembled(torch.utils.data.Dataset[Batch]):
    """Dataset whose items are batches, for the processes of a DataLoader."""

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler

    def __getitem__(self, step: Any) -> Any:
        try:
            return _shared(self._assembler(step))
        except HTTError as error:  # returned and raised in the main process, so that its message stays one sentence
            return error


def _shared(batch: Batch) -> Batch:
    """Move a batch to shared memory.

    It is done here, because torch does it in a thread, where an error for lack of memory would be lost.

    Raises:
        ClusterError: shared memory is full.
    """
    try:
        for tensor in batch.tensors().values():
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(f"Cannot put a batch into shared memory ({SHARED}): {reason}. {REMEDY}") from None
    return batch


def _as_it_is(batch: Any) -> Any:
    return batch


class EpochLoader(Protocol):
    """Interface of the training data: the batches of each epoch; see ``TrainingLoader``."""

    @property
    def step_windows(self) -> int:
        """Number of windows in a step, over all workers."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in a whole epoch, the same for all workers."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return an iterator over the batches of an epoch after its first ``start`` windows."""


class TrainingLoader:
    """Training batches of one worker, by epoch.

    All workers have the same number of steps; their batches of a step together form the global batch.
    """

    def __init__(self, clips: Clips, config: Config, rank: int = 0, world: int = 1) -> None:
        """Prepare the decoding.

        Args:
            clips: clips of the training split.
            config: configuration; runtime.loader_workers processes decode, or this process if it is 0.
            rank: index of this worker.
            world: number of workers.

        Raises:
            ConfigError: a step has fewer windows than there are workers.
        """
        self.windows = training_windows(clips.frame_counts, config)
        self._train, self._rank, self._world = config.train, rank, world
        self._views = config.data.augment.views or 0
        self._observed = config.data.observed
        step_windows = config.train.batch_size * order.times(config.train, world)
        order.check_world(len(self.windows), step_windows, world, config.train.windows_per_epoch)
        self._labelled = None if clips.labelled.all() else clips.labelled[self.windows.clip]
        self._others = 0 if config.data.unlabelled == "ignore" else config.data.unlabelled_windows
        self._taught = config.data.unlabelled == "pseudo_labels"
        self.step_windows = step_windows * (1 + self._others)
        model = config.model
        self.assembler = Assembler(clips, self.windows, model.backbone.reads_images, model.forecast.frames)
        self._decoder = Decoder(self.assembler, config.runtime.loader_workers)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in a whole epoch, the same for all workers."""
        batch_size = self.step_windows // (1 + self._others)
        return order.steps_per_epoch(len(self.windows), batch_size, self._train.windows_per_epoch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return an iterator over the batches of an epoch after its first ``start`` windows.

        They are the same as in an uninterrupted epoch. With ``data.unlabelled`` pseudo_labels, the windows of clips
        without labels are in a batch three times, one after another: for the model and for the teacher's two views.
        """
        counts = self._frame_counts(epoch)
        steps = order.order(
            len(self.windows),
            seed=self._train.seed,
            epoch=epoch,
            batch_size=self.step_windows,
            rank=self._rank,
            world=self._world,
            limit=self._train.windows_per_epoch,
            start=start,
            frame_counts=counts,
            labelled=self._labelled,
            others=self._others,
        )
        codes = COPIES * (self.windows.frame_count - counts)
        if self._labelled is not None:
            seed, first = [self._train.seed, epoch, 1], start // self.step_windows
            others = [step[~self._labelled[step]] for step in steps]
            return self._decoder.batches([
                self._with_views(*windows, codes, [*seed, first + place])
                for place, windows in enumerate(zip(steps, others, strict=True))
            ])  # fmt: skip
        if self._views:  # the copy of each window is drawn for the epoch, for any number of workers
            codes += np.random.default_rng([self._train.seed, epoch, 1]).integers(1, self._views + 1, len(codes))
        return self._decoder.batches([step + codes[step] * len(self.windows) for step in steps])

    def _frame_counts(self, epoch: int) -> np.ndarray:
        """Return the [windows] number of frames that an epoch shows of each window, for any number of workers."""
        if self._observed == (1, 1):
            return self.windows.frame_count
        random = np.random.default_rng([self._train.seed, epoch, 2])
        return draw_observed(self.windows, self.assembler.clips.frame_counts, self._observed, random)

    def _with_views(self, step: np.ndarray, others: np.ndarray, codes: np.ndarray, seed: list[int]) -> np.ndarray:
        """Return a step with a drawn copy of each window, followed by the two copies of ``others`` for the teacher.

        ``codes`` [windows] say how much of each window is seen.

        Copies are drawn for every step, because labelled windows are repeated in an epoch. The plain clip is one of
        those that a teacher can see.
        """
        count = len(self.windows)
        seen = turn = np.zeros(count, np.int64)
        if self._views:
            seen, turn = np.random.default_rng(seed).integers(1, self._views + 1, (2, count))
        copies = [seen]
        if self._taught:
            copies += [(seen + turn) % (self._views + 1), (seen + turn % max(self._views, 1) + 1) % (self._views + 1)]
        own, *again = (codes + copy for copy in copies)
        return np.concatenate([step + own[step] * count, *(others + codes[others] * count for codes in again)])


def evaluation_groups(windows: Windows, info: DataInfo, config: Config) -> order.Steps:
    """Return the indices of the windows of each evaluation batch."""
    budget = EVALUATION_PIXELS // (info.width * info.height if config.model.backbone.reads_images else 1)
    return order.groups(windows.frame_count, EVALUATION_BATCHES * config.train.batch_size, budget)


class EvaluationLoader:
    """Evaluation batches of one worker, possibly none.

    Together, the workers evaluate every frame of every clip exactly once. The batches do not depend on the number of
    workers, and each is computed by one of them, so the results do not depend on it either.
    """

    def __init__(self, clips: Clips, config: Config, rank: int = 0, world: int = 1) -> None:
        windows = evaluation_windows(clips.frame_counts, config)
        groups = evaluation_groups(windows, clips.info, config)
        assembler = Assembler(clips, windows, config.model.backbone.reads_images, config.model.forecast.frames)
        self._steps = [groups[step] for step in order.share(len(groups), rank, world)]
        self._decoder = Decoder(assembler, config.runtime.loader_workers)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Batch]:
        return self._decoder.batches(self._steps)
