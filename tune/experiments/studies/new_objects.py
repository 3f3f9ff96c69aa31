"""Study of the rendered benchmark: do all clips share eight objects, as in H2O, or has each clip objects of its own?"""

from tune.experiments.study import Study

STUDY = Study(
    question="How much harder are objects that no training clip has shown?",
    variants={
        "shared objects": {"data.synthetic.new_objects": False},
        "new objects": {"data.synthetic.new_objects": True},
    },
    reference="shared objects",
    base={"data.source": "synthetic", "data.root": None},
    metrics=("object_accuracy", "action_accuracy", "hand_error_mm"),
    notes={
        "new objects": "The validation clips differ from those of the reference too: same subjects, rooms and motions, "
        "other objects.",
    },
)
