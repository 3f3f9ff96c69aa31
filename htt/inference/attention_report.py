"""Files of a model's attention: ``report.md`` and ``report.html`` with figures, and every number as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from htt import files, text
from htt.evaluation import intervals
from htt.evaluation.report import NAMES, Provenance
from htt.inference import attention_figures as figures
from htt.inference.attention import ATTENDED, MEASURES, RANDOM, SHIFTED, USUAL, Attention, Fall, Removal
from htt.inference.attention_figures import PICTURES, Strip
from htt.pages import html
from htt.pages.html import Part, Picture
from htt.pages.table import Column, Table, csv
from htt.text import code, escaped, plural

OVER_TIME, ACTIONS, DISTANCES, REMOVAL, STRIPS = (
    "attention_over_time", "attention_of_actions", "attention_by_distance", "removal", "strips"
)  # fmt: skip
"""Names of the pictures."""
HEADS_CSV, TIME_CSV, DISTANCES_CSV, REMOVAL_CSV, CLIPS_CSV = (
    f"{name}.csv" for name in ("heads", "attention_over_time", "attention_by_distance", "removal", "clips")
)
BINS = 20
"""Equal parts of a clip in which the attention over time is averaged."""
TOP = 0.25
"""Share of a clip's frames that are counted as its most attended ones in the table of heads."""
_NAMES = {"accuracy": "accuracy", "probability": "probability of the true action"}
_CONTROLS = {
    RANDOM: "random frames",
    SHIFTED: "the attended frames, shifted in time",
    USUAL: "frames that other clips attend to",
}


def write(folder: Path, found: Attention, split: str, about: Provenance, warnings: Sequence[str] = ()) -> None:
    """Write all files into ``folder``, each atomically.

    Raises:
        StorageError: the disk is full or not writable.
        DataError: an image of an example cannot be decoded.
    """
    source = found.clips.info.source
    parts: list[Part] = [
        code(about.command),
        f"Checkpoint {code(about.checkpoint)}, configuration {about.fingerprint}, data {code(about.data)}: "
        f"{intervals.sampled(len(found.clips), len(set(found.clips.groups)))}, {plural(about.frames, 'frame')}.",
        *(f"> **{warning}**" for warning in warnings),
        "## In short",
        "\n".join(f"- {line}" for line in conclusions(found)),
    ]
    if found.removal:
        parts += [
            *_removal(folder, found, found.removal),
            *_action(folder, found),
            *_examples(found, found.removal),
        ]
    parts += [*_pose(folder, found), *_reading(found)]
    html.publish(folder, f"What the model looks at: {NAMES.get(source, source)}, {split} split", parts)


def conclusions(found: Attention) -> list[str]:
    """Return the results, a sentence each."""
    lines = []
    if found.removal is None:
        lines.append("Block A has no attention, so there is no action token whose attention could be shown or tested.")
    else:
        lines.append(verdict(found.removal))
        lines += [line for measure in MEASURES for line in _measured(measure, found.removal)]
        share = 100 * found.top_share(TOP)[-1].mean()
        lines.append(
            f"The most attended quarter of a clip's frames gets {share:.0f} % of the attention to frames (last layer; "
            f"{100 * TOP:.0f} % if all were alike)."
        )
    if found.distances is None:
        lines.append("Block P has no attention: it does not weigh the frames of its window.")
    elif not _has_distances(found):
        lines.append("Block P sees one frame at a time, so its attention has no distances.")
    else:
        lines.append(
            f"A frame in block P attends {found.distances.mean.mean():.1f} frames away on average "
            f"({found.distances.mean_equal:.1f} if all frames of its window were alike)."
        )
    return lines


def verdict(removal: Removal) -> str:
    """Return in one sentence whether the model needs the frames that its token attends to, by its accuracy."""
    falls = [fall for fall in removal.falls if fall.measure == "accuracy" and fall.frames is None]
    if any(fall.interval is None for fall in falls):
        return "All clips are of one group (one recording, or one motion), so nothing is shown about others."
    more = {fall.control: fall.interval is not None and fall.interval[0] > 0 for fall in falls}
    if not (more[RANDOM] and more[SHIFTED]):
        return "It is not shown that the model needs the frames that its action token attends to."
    needed = "The action token attends to frames that the model needs more than others"
    if USUAL not in more:
        return f"{needed}."
    if more[USUAL]:
        return f"{needed}, and finds them in each clip."
    return (
        f"{needed}, but it is not shown that it finds them in each clip: compared with the frames that other clips "
        "attend to, they do not matter more."
    )


def _measured(measure: str, removal: Removal) -> list[str]:
    """Return the means of one measure over the numbers of removed frames, and its comparisons."""
    falls = [fall for fall in removal.falls if fall.measure == measure and fall.frames is None]
    name, whole = _NAMES[measure].capitalize(), removal.values(measure, removal.whole).mean()
    lines = [
        f"{name}: {_percent(whole)} with all frames, {_percent(falls[0].attended)} without the most attended ones."
    ]
    for fall in falls:
        span, shown = ", without an interval", "nothing is shown"
        if fall.interval is not None:
            low, high = fall.interval
            span = f" ({_signed(low)} to {_signed(high)})"
            shown = "the attended frames matter more" if low > 0 else "the attended frames matter less"
            shown = "no difference is shown" if low <= 0 <= high else shown
        lines.append(
            f"{name} without {_CONTROLS[fall.control]}: {_percent(fall.value)}, a difference of "
            f"{_signed(fall.difference)} points{span}: {shown}."
        )
    return lines


def _removal(folder: Path, found: Attention, removal: Removal) -> list[Part]:
    counts, draws = ", ".join(map(str, removal.counts)), removal.without[RANDOM].shape[1]
    table = _falls(removal)
    files.write_text(folder / REMOVAL_CSV, csv([table]))
    _write_csv(folder / CLIPS_CSV, *_clips(found, removal))
    means = "; ".join(
        f"{_NAMES[fall.measure]}, {_CONTROLS[fall.control]}: {_signed(fall.difference)} points"
        for fall in removal.falls
        if fall.frames is None
    )
    return [
        "## Does the model need the frames it attends to?",
        f"From each window the most attended frames ({counts}; last layer, mean of the heads) are removed, or as many "
        f"others of the same window: random ones, the attended ones shifted in time ({plural(draws, 'draw')} each), or "
        "those at the positions that are attended to most in the other clips. They are removed from block A alone: "
        "hands, objects and the tokens of the other frames stay as they are.",
        Picture(
            REMOVAL,
            figures.after_removal(removal),
            "Above: accuracy (soft vote) and mean probability of the true action. Below: how much more they fall "
            "without the most attended frames than without the control's, with 95 % intervals.",
            f"Lines of accuracy and probability after the removal of frames, and their differences. Means: {means}",
        ),
        table,
    ]


def _falls(removal: Removal) -> Table[Fall]:
    """Return the table of comparisons."""
    shares: dict[int | None, float] = {
        None: removal.share.mean(),
        **dict(zip(removal.counts, removal.share, strict=True)),
    }

    def removed(fall: Fall) -> str:
        return f"{fall.frames} ({100 * shares[fall.frames]:.0f} %)" if fall.frames else "mean"

    def span(fall: Fall) -> str:
        return f"{_signed(fall.interval[0])} to {_signed(fall.interval[1])}" if fall.interval else ""

    return Table(
        [
            Column("frames_removed", lambda fall: fall.frames or "mean"),
            Column("", removed, "Removed", number=False),
            Column("share_removed", lambda fall: shares[fall.frames]),
            Column("measure", lambda fall: fall.measure, "Measure", _NAMES.__getitem__, number=False),
            Column("control", lambda fall: fall.control, "Control", _CONTROLS.__getitem__, number=False),
            Column("attended_removed", lambda fall: fall.attended, "Without attended", _percent),
            Column("control_removed", lambda fall: fall.value, "Without control", _percent),
            Column("difference", lambda fall: fall.difference, "Difference", lambda share: f"{_signed(share)} points"),
            Column("low", lambda fall: fall.interval[0] if fall.interval else ""),
            Column("high", lambda fall: fall.interval[1] if fall.interval else ""),
            Column("", span, "95 % interval"),
        ],
        removal.falls,
    )


def _clips(found: Attention, removal: Removal) -> tuple[list[str], list[list[Any]]]:
    """Return heads and rows of the table of clips: the true action's probability after each removal."""
    actions = found.clips.info.actions
    after = {which: removal.after("probability", which) for which in (ATTENDED, *removal.controls)}
    whole = removal.values("probability", removal.whole)
    heads = ["clip", "group", "action", "predicted", "probability"]
    heads += [f"without_{count}_{which}" for count in removal.counts for which in after]
    rows = [
        [
            found.clips.ids[clip],
            removal.groups[clip],
            actions[removal.label[clip]],
            actions[removal.whole[clip].argmax()],
            float(whole[clip]),
            *(float(after[which][number, clip]) for number in range(len(removal.counts)) for which in after),
        ]
        for clip in range(len(removal.label))
    ]
    return heads, rows


def _action(folder: Path, found: Attention) -> list[Part]:
    profiles, labels = found.profiles(BINS), found.clips.action
    actions = sorted(set(labels.tolist()))
    table = _heads(found, profiles)
    files.write_text(folder / HEADS_CSV, csv([table]))
    means = {found.clips.info.actions[each]: profiles[labels == each].mean(axis=0) for each in actions}
    _write_csv(folder / TIME_CSV, ["action", "layer", "head", "position", "attention"],
               _over_time({"all": profiles.mean(axis=0), **means}))  # fmt: skip
    layers, heads = profiles.shape[1:3]
    return [
        "## Attention of the action token over time",
        Picture(
            OVER_TIME,
            figures.over_time(profiles.mean(axis=0)),
            f"Mean over {plural(len(profiles), 'clip')}, each aligned to [0, 1]. 1 is the attention if the token "
            "attended to all frames of a window alike.",
            f"Attention of the action token over the clip: {plural(layers, 'panel')}, one for each layer, with a line "
            f"for each of {plural(heads, 'head')}",
        ),
        Picture(
            ACTIONS,
            figures.of_actions(np.stack([each[-1].mean(axis=0) for each in means.values()]), list(means)),
            "Last layer, mean of the heads and of the clips of an action; actions that attend early are above.",
            f"Attention of the action token over the clip: a row for each of {plural(len(means), 'action')}",
        ),
        "To itself: share of its attention that the token gives to itself. The other numbers are of the rest, to the "
        "frames. Mean position: 0 is the start of the clip, 1 its end.",
        table,
    ]


def _heads(found: Attention, profiles: np.ndarray) -> Table[list[Any]]:
    """Return the table of the heads of each layer, and of their mean."""
    positions = profiles.mean(axis=0) @ ((np.arange(BINS) + 0.5) / BINS) / BINS
    numbers = np.stack([found.own.mean(axis=0), found.top_share(TOP), positions], axis=-1)
    rows: list[list[Any]] = []
    for layer, of_layer in enumerate(numbers, 1):
        rows += [[layer, head, *values.tolist()] for head, values in enumerate(of_layer, 1)]
        rows.append([layer, "mean", *of_layer.mean(axis=0).tolist()])
    return Table(
        [
            Column("layer", itemgetter(0), "Layer"),
            Column("head", itemgetter(1), "Head"),
            Column("to_itself", itemgetter(2), "To itself", _percent),
            Column("top_quarter", itemgetter(3), "To the most attended quarter", _percent),
            Column("mean_position", itemgetter(4), "Mean position", "{:.2f}".format),
        ],
        rows,
    )


def _over_time(means: dict[str, np.ndarray]) -> Iterable[list[Any]]:
    for action, values in means.items():
        for layer, head, place in np.ndindex(values.shape):
            yield [action, layer + 1, head + 1, (place + 0.5) / BINS, float(values[layer, head, place])]


def _examples(found: Attention, removal: Removal) -> list[Part]:
    if found.clips.poses_only:
        return ["The clips have poses and no images, so there are no film strips."]
    chosen = examples(removal)
    middle = removal.counts[len(removal.counts) // 2]
    strips = [_strip(found, removal, clip) for clip in chosen]
    return [
        "## Three clips",
        Picture(
            STRIPS,
            figures.film_strips(strips),
            "Each picture is the most attended frame of its part of the clip. Bars: attention in the last layer, mean "
            "of the heads; at the dashed line all frames were alike. Orange: the "
            f"{plural(middle, 'most attended frame')}.",
            f"Film strips with the attention of the action token. {'; '.join(strip.title for strip in strips)}",
        ),
        "Of all clips, ordered by how much more the probability of the true action falls without the attended frames "
        f"than without random ones, these are the first, the middle and the last: "
        f"{', '.join(escaped(found.clips.ids[clip]) for clip in chosen)}.",
    ]


def examples(removal: Removal) -> list[int]:
    """Return the clip whose probability falls most compared with random frames, the middle one, and the last one."""
    order = np.argsort(-removal.differences("probability", RANDOM).mean(axis=0), kind="stable")
    places = dict.fromkeys((0, len(order) // 2, len(order) - 1))
    return [int(order[place]) for place in places]


def _strip(found: Attention, removal: Removal, clip: int) -> Strip:
    mean, actions = found.token[clip][-1].mean(axis=0), found.clips.info.actions
    parts = [part for part in np.array_split(np.arange(len(mean)), PICTURES) if len(part)]
    frames = np.array([part[mean[part].argmax()] for part in parts])
    middle = len(removal.counts) // 2
    marked = np.zeros(len(mean), bool)
    marked[np.argsort(-mean, kind="stable")[: removal.counts[middle]]] = True
    after = {which: removal.after("probability", which)[middle, clip] for which in (ATTENDED, RANDOM)}
    predicted = int(removal.whole[clip].argmax())
    wrong = "" if predicted == removal.label[clip] else f" (predicted: {actions[predicted]})"
    title = (
        f"{actions[removal.label[clip]]}{wrong}: probability "
        f"{removal.values('probability', removal.whole)[clip]:.2f}; without the "
        f"{plural(removal.counts[middle], 'most attended frame')} {after[ATTENDED]:.2f}, without as many random ones "
        f"{after[RANDOM]:.2f}"
    )
    images = found.clips.decode(clip, frames).permute(0, 2, 3, 1).numpy()
    return Strip(title, frames, images, mean, marked)


def _pose(folder: Path, found: Attention) -> list[Part]:
    distances = found.distances
    if distances is None or not _has_distances(found):
        return []
    rows = [
        [layer + 1, head + 1, int(distance), float(distances.relative[layer, head, place])]
        for layer, head in np.ndindex(distances.mean.shape)
        for place, distance in enumerate(distances.distance)
        if distances.equal[place] > 0
    ]
    _write_csv(folder / DISTANCES_CSV, ["layer", "head", "distance_frames", "attention"], rows)
    return [
        "## Attention of block P by distance in time",
        Picture(
            DISTANCES,
            figures.by_distance(distances),
            "Mean over all pairs of frames of a window. 1 is the attention if a frame attended to all frames of its "
            "window alike; 0 on the axis is the frame itself.",
            f"Attention of block P by distance in time, for each layer and head. Mean distance: "
            f"{distances.mean.mean():.1f} frames",
        ),
    ]


def _has_distances(found: Attention) -> bool:
    return found.distances is not None and found.distances.mean_equal > 0


def _reading(found: Attention) -> list[str]:
    if found.removal is None:
        return []
    count, groups = len(found.clips), len(set(found.clips.groups))
    tables = [REMOVAL_CSV, CLIPS_CSV, HEADS_CSV, TIME_CSV, *([DISTANCES_CSV] if _has_distances(found) else [])]
    notes = [
        f"Differences are paired by clip. Intervals over {intervals.sampled(count, groups)}: a percentile bootstrap"
        + (", in which groups (one recording, or one motion) are drawn, because their clips are alike."
           if groups < count else "."),
        "They say how the numbers would vary with other clips, not with other trainings of the model.",
        "The mean over the numbers of frames is the result. The rows for each number show where it comes from; of many "
        "intervals some exclude zero by chance.",
        "A difference to random and shifted frames says that the attended frames matter. A difference to the frames "
        "that other clips attend to says that the token finds them in each clip; a token that looks at the same "
        "position in every clip has none.",
        "A model that needs no single frame, because the others tell the same, falls little with any removal; then "
        "no difference does not mean that the attention is wrong.",
        f"Numbers: {', '.join(map(code, tables))}.",
    ]  # fmt: skip
    return ["## How to read it", "\n".join(f"- {note}" for note in notes)]


def _write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    files.write_text(path, text.csv(heads, ([_rounded(cell) for cell in row] for row in rows)))


def _rounded(cell: Any) -> Any:
    return float(f"{cell:.6g}") if isinstance(cell, float) else cell


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _signed(share: float) -> str:
    number = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if number[1:] == "0.0" else number
