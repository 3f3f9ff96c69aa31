"""Study of training on windows from every start offset. Source: Wen et al. 2023, section 3.4."""

from htt.evaluation.published import published
from tune.experiments.study import Study

STUDY = Study(
    question="Does training on windows from every start offset help?",
    variants={"every start": {"data.shifted_starts": True}, "fixed starts": {"data.shifted_starts": False}},
    reference="every start",
    paper_value={"every start": published("h2o", "val")},
    notes={
        "fixed starts": "An epoch has fewer windows, by a factor of about the length of block P's window, and so "
        "fewer steps. --set train.windows_per_epoch=N makes the steps equal."
    },
)
