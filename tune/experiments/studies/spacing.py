"""Study of the frame spacing. Source: Wen et al. 2023 use every second frame of 30 frames/s."""

from tune.experiments.study import Study

STUDY = Study(
    question="How far apart may the frames of a window be?",
    variants={
        "every frame": {"data.spacing": 1},
        "every 2nd": {"data.spacing": 2},
        "every 4th": {"data.spacing": 4},
    },
    reference="every 2nd",
    notes={
        "every frame": "A window covers half the time.",
        "every 4th": "A window covers twice the time; without shifted starts, an epoch has fewer windows.",
    },
)
