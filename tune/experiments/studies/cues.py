"""Study of the inputs of block A: all non-empty subsets of feature, hands and object. Source: Wen et al. 2023."""

from htt.evaluation.published import published
from tune.experiments.designs import subsets
from tune.experiments.study import Study

ALL = "feature + hands + object"

STUDY = Study(
    question="Which inputs does block A need for each frame?",
    variants=subsets("model.action.cues", ("feature", "hands", "object")),
    reference=ALL,
    paper_value={ALL: published("h2o", "val")},
    notes={"feature": "Hands and object are still learned, from the same tokens of block P."},
)
