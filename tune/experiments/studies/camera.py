"""Study of other cameras: depth as released or of a virtual camera, tested with the training camera and two others.

The base trains with one camera. To train with several, none of which is a camera of the test::

    --set data.synthetic.focal=[0.5,0.7,0.9,1.4] --set data.synthetic.distance=[0.8,1.0,1.3,1.6]
"""

from htt.config import Value
from tune.experiments.designs import factorial
from tune.experiments.study import Study


def _seen_by(focal: float, distance: float) -> dict[str, Value]:
    return {"data.synthetic.held_out_focal": [focal], "data.synthetic.held_out_distance": [distance]}


FACTORS: dict[str, dict[str, dict[str, Value]]] = {
    "depth": {
        "released": {"model.pose.joint_depth": "released"},
        "virtual camera": {"model.pose.joint_depth": "virtual_camera"},
    },
    "camera": {
        "usual camera": _seen_by(0.8, 1.0),
        "longer lens from farther": _seen_by(1.2, 1.5),
        "wide lens": _seen_by(0.6, 1.0),
    },
}

STUDY = Study(
    question="Does a model find hands with a camera that it was not trained with?",
    variants=factorial(**FACTORS),
    reference="released, usual camera",
    base={"data.source": "synthetic", "data.root": None, "model.pose.virtual_focal": 0.8},
    metrics=("hand_error_mm", "hand_error_ra_mm", "action_accuracy"),
    factors=FACTORS,
    notes={
        f"{depth}, {camera}": note
        for depth in FACTORS["depth"]
        for camera, note in {
            "longer lens from farther": "Focal length and distance are 1.5 times the usual: hands look as large.",
            "wide lens": "The focal length is 0.75 times the usual at the same distance: hands look smaller.",
        }.items()
    },
)
