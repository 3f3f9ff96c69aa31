"""Study of the loss terms: the effect of each term on each metric, and the weight of the action term."""

from tune.experiments.designs import ALL, leave_one_out
from tune.experiments.study import Study

TERMS = {
    "hands": {"loss.joints_px": 0.0, "loss.depth_m": 0.0},
    "object": {"loss.object": 0.0},
    "action": {"loss.action": 0.0},
}

STUDY = Study(
    question="Does learning hands, object and action together improve each of them?",
    variants={**leave_one_out(TERMS), "action x 0.3": {"loss.action": 0.3}, "action x 3": {"loss.action": 3.0}},
    reference=ALL,
    base={"loss.object": 1.0, "loss.action": 1.0},
    primary=("without hands", "without object", "without action"),
    notes={
        "without hands": "Its hand error is that of an untrained head.",
        "without action": "Its accuracy is that of an untrained head.",
    },
)
