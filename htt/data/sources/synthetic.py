"""The rendered benchmark: clips of ``htt.scene``, determined by ``data.synthetic`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from htt import scene
from htt.config import DataConfig, SyntheticConfig
from htt.data.sources import ClipKey, ClipRecord, Problem, _images
from htt.info import DataInfo
from htt.scene.version import VERSION


@dataclass(frozen=True)
class SyntheticSource:
    """Renders its clips when they are read; nothing can be missing."""

    config: SyntheticConfig
    name: str = "synthetic"
    pixels: str = f"rendered by htt.scene, version {VERSION}; {_images.JPEG}"

    @property
    def splits(self) -> tuple[str, ...]:
        """train, val, test."""
        return tuple(self._counts)

    def info(self, width: int, height: int) -> DataInfo:
        """The facts of the benchmark; actions and objects are H2O's."""
        return DataInfo(self.name, scene.ACTIONS, scene.OBJECTS, 2, width, height)

    def clips(self, split: str) -> list[ClipKey]:
        """The planned clips of a split."""
        plans = scene.plan({split: self._counts[split]}, self.config.frames, self.config.seed)
        return [ClipKey(plan.clip_id, plan.frames, plan) for plan in plans]

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Render a clip."""
        plan: scene.ClipPlan = key.place
        clip = scene.render(plan, width, height)
        record = ClipRecord(
            id=key.id,
            subject=f"subject{plan.subject}",
            action=plan.action,
            object=plan.object,
            intrinsics=clip.intrinsics,
            width=width,
            height=height,
            frame_numbers=list(range(plan.frames)),
            jpegs=[_images.encode(frame, quality) for frame in clip.frames],
            joints_m=clip.joints_m,
            hand_valid=clip.hand_valid,
        )
        return record, []

    def differences(self) -> list[str]:
        """None: nothing was published that it could differ from."""
        return []

    @property
    def _counts(self) -> dict[str, int]:
        return {"train": self.config.train_clips, "val": self.config.val_clips, "test": self.config.test_clips}


def source(root: Path | None, config: DataConfig) -> SyntheticSource:  # noqa: ARG001 - nothing is read from a folder
    """The benchmark of ``config.synthetic``."""
    return SyntheticSource(config.synthetic)
