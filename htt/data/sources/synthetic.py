"""Rendered benchmark: clips of ``htt.scene``, determined only by ``data.synthetic``."""

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
    """Source of clips that are rendered when they are read; no file can be missing."""

    config: SyntheticConfig
    name: str = "synthetic"
    pixels: str = f"rendered by htt.scene, version {VERSION}; {_images.JPEG}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: train, val, test."""
        return tuple(self._counts)

    def info(self, width: int, height: int) -> DataInfo:
        """Return the facts of the benchmark; its actions and objects are those of H2O."""
        return DataInfo(self.name, scene.ACTIONS, scene.OBJECTS, 2, width, height, hand_types=scene.HAND_TYPES)

    def clips(self, split: str) -> list[ClipKey]:
        """Return the planned clips of a split."""
        config = self.config
        focals, distances = config.focal, config.distance
        if split != "train":
            focals, distances = config.held_out_focal or focals, config.held_out_distance or distances
        counts = {split: self._counts[split]}
        plans = scene.plan(counts, config.frames, config.seed, config.new_objects, focals, distances)
        return [ClipKey(plan.clip_id, plan.frames, plan) for plan in plans]

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Render a clip."""
        plan: scene.ClipPlan = key.entry
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
            group=plan.group,
            hand_types=clip.hand_types,
        )
        return record, []

    def differences(self) -> list[str]:
        """Return an empty list: there is no published version to compare with."""
        return []

    @property
    def _counts(self) -> dict[str, int]:
        return {"train": self.config.train_clips, "val": self.config.val_clips, "test": self.config.test_clips}


def source(root: Path | None, config: DataConfig) -> SyntheticSource:  # noqa: ARG001 - no folder is read
    """Return the benchmark of ``config.synthetic``."""
    return SyntheticSource(config.synthetic)
