"""Numbers that HTT's authors published, and the splits they belong to.

Source: Wen et al., CVPR 2023 (arXiv 2209.09484): the tables of H2O and FPHA. Fractions are of 1; the counts of the
accuracies follow from the sizes of the splits.
"""

from __future__ import annotations

from collections.abc import Mapping

COUNTS: Mapping[tuple[str, str], tuple[int, int]] = {
    ("h2o", "val"): (110, 122),
    ("h2o", "test"): (209, 242),
    ("fpha", "test"): (541, 575),
}
"""{(source, split): clips with a correct action, and all clips of the split}."""

HANDS: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("h2o", "test"): {
        "hand_error_left_mm": 35.02,
        "hand_error_right_mm": 35.63,
        "hand_error_ra_left_mm": 16.59,
        "hand_error_ra_right_mm": 17.91,
        "hand_auc_ra_left": 0.674,
        "hand_auc_ra_right": 0.648,
    },
    ("fpha", "test"): {
        "hand_auc": 0.810,
        "hand_auc_ra": 0.763,
        "hand_error_ra_mm": 12.13,
    },
}
"""{(source, split): {metric: value}} of hand poses."""


def published(source: str, split: str) -> Mapping[str, float]:
    """Return {metric: published value} of a split; empty if there are no published values."""
    counts = published_counts(source, split)
    accuracy = {"action_accuracy": counts[0] / counts[1]} if counts else {}
    return {**accuracy, **HANDS.get((source, split), {})}


def published_counts(source: str, split: str) -> tuple[int, int] | None:
    """Return the counts of the published action accuracy of a split, or None if there is none."""
    return COUNTS.get((source, split))
