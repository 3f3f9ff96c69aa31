"""Table of a conversion, and its problems in few lines."""

from htt.data.conversion import summary
from htt.data.shards.manifest import Manifest, Shard, Wanted
from htt.data.sources import CLIP_LEFT_OUT, FRAME_LEFT_OUT, HANDS_NOT_KNOWN, Problem


def _shard(size: int, clips: int, frames: int) -> Shard:
    return Shard.model_construct(file="x", bytes=size, sha256="", clips=clips, frames=frames)


def _manifest() -> Manifest:
    return Manifest(
        source="noise",
        actions=["a"],
        objects=["b"],
        hands=2,
        width=32,
        height=24,
        quality=92,
        pixels="noise",
        splits={"train": [_shard(2_000_000, 2, 900), _shard(340_000, 1, 300)], "test": [_shard(50_000, 1, 9)]},
        wanted={
            "train": [Wanted(id=str(index), first=0, frames=500) for index in range(4)],
            "test": [Wanted(id="9", first=3, frames=9)],
        },
    )


def test_table_has_a_row_for_each_split() -> None:
    problems = {
        "train": [
            Problem("4.txt", "is missing", HANDS_NOT_KNOWN, frames=7),
            Problem("9.txt", "is truncated", HANDS_NOT_KNOWN, frames=5),
            Problem("3.png", "is missing", FRAME_LEFT_OUT, frames=100),
        ]
    }
    assert summary.table(_manifest(), problems) == [
        "split  clips  frames   MB  clips left out  frames left out  hands not known",
        "train      3   1,200  2.3               1              800               12",
        "test       1       9  0.1               0                0                0",
        "all        4   1,209  2.4               1              800               12",
    ]


def test_grouped_joins_similar_problems() -> None:
    problems = [
        Problem("clip 1", "has no readable frame", CLIP_LEFT_OUT),
        *(Problem(f"{index}.png", "is missing", FRAME_LEFT_OUT, frames=1) for index in range(1_200)),
        Problem("a.txt to b.txt", "has invalid numbers", HANDS_NOT_KNOWN, "125 of 126", 40),
        Problem("c.txt", "has invalid numbers", HANDS_NOT_KNOWN, "0 of 126", 1),
    ]
    assert summary.grouped(problems) == [
        "  1,200 x frame left out: 0.png is missing",
        "  2 x (41 frames) hands not known: a.txt to b.txt has invalid numbers (125 of 126)",
        "  1 x clip left out: clip 1 has no readable frame",
    ]
