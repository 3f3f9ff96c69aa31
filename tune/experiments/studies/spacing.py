"""Study of the frame spacing. Source: Wen et al. 2023 use every second frame of 30 frames/s."""

from tune.experiments.study import Study

STUDY = Study(
    question="Every how many-th frame is enough?",
    variants={
        "every frame": {"data.spacing": 1},
        "every 2nd": {"data.spacing": 2},
        "every 4th": {"data.spacing": 4},
    },
    reference="every 2nd",
    notes={
        "every frame": "A window of as many frames covers half the time.",
        "every 4th": "A window of as many frames covers twice the time; without shifted starts, fewer an epoch.",
    },
)
