"""Study of fewer labels: a tenth, a quarter, all; the other clips left out, without labels, or with weak labels.

All variants take equally many steps, and those of one share see the same labelled windows in the same steps; a step of
a variant that uses the other clips has as many windows of these again. ``labels_quarter`` compares the variants with a
quarter of the labels among each other, on the same trials.
"""

from htt.config import Value
from tune.experiments.study import Study

OTHERS = {"pseudo-labels": "pseudo_labels", "actions": "actions", "poses": "poses"}


def variants_of(name: str, share: float) -> dict[str, dict[str, Value]]:
    """Return the variants with a share of the labels, by name."""
    alone: dict[str, Value] = {"data.labelled": share}
    return {name: alone, **{f"{name} + {other}": {**alone, "data.unlabelled": use} for other, use in OTHERS.items()}}


STUDY = Study(
    question="How much do clips without labels, or with weak labels, help a training with few labels?",
    variants={**variants_of("10 %", 0.1), **variants_of("25 %", 0.25), "100 %": {"data.labelled": 1.0}},
    reference="10 %",
    base={
        "data.labelled": 1.0,
        "data.unlabelled": "ignore",
        "data.unlabelled_windows": 1,
        "data.augment.views": 3,
        "train.ema": 0.98,
        # Tried on seed 100: with the defaults no action is sure, and joints that are steady but wrong do more harm.
        "pseudo.confidence": 0.7,
        "pseudo.agreement_mm": 3.0,
        "pseudo.ramp": 1.0,
    },
    metrics=("action_accuracy", "hand_error_mm", "object_accuracy"),
    primary=("10 % + pseudo-labels", "10 % + actions", "10 % + poses", "25 %", "100 %"),
    notes={
        "10 %": "One choice of clips, the same for all seeds: intervals do not say how another choice would do.",
        **{
            f"{share} + {other}": text
            for share in ("10 %", "25 %")
            for other, text in {
                "pseudo-labels": "The other clips have labels of the moving-average teacher alone.",
                "actions": "The other clips have their action and object, and no hands.",
                "poses": "The other clips have their hands, and no action and no object.",
            }.items()
        },
    },
)
