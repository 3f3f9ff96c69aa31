r"""Study of the paper's claims: motion helps hands; hands and object, and attention over the whole clip, help actions.

On features of a frozen encoder, a training takes seconds::

    python tune/ablate.py --study headline --preset bench --set model.backbone.trained=false \
        --set model.backbone.batch_norm=frozen --set data.augment.views=0 --set train.epochs=12 \
        --set train.batch_size=8 --set optim.weight_decay=0.1 --seeds 20
"""

from tune.experiments.study import Study

STUDY = Study(
    question="What do the short window, the cues of hands and object, and attention over the whole clip contribute?",
    variants={
        "HTT": {},
        "1 frame": {"model.pose.window": 1},
        "feature alone": {"model.action.cues": ["feature"]},
        "hands and object": {"model.action.cues": ["hands", "object"]},
        "per-frame vote": {"model.action.block": "identity"},
    },
    reference="HTT",
    base={"data.shifted_starts": False},  # otherwise a short window of block P means fewer training windows
    notes={
        "1 frame": "Block P sees no motion; the claim is about the hand error.",
        "feature alone": "Hands and object are still learned, but not used by block A; the claim is about actions.",
        "hands and object": "Block A sees no feature, only the predicted hands and object; the claim is about actions.",
        "per-frame vote": "Each frame predicts an action, and the clip's is their mean; the claim is about actions.",
    },
)
