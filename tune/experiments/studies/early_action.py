r"""Study of the early action: training on beginnings of clips, and causal attention in block A.

On features of a frozen encoder, a training takes seconds::

    python tune/ablate.py --study early_action --preset bench --set model.backbone.trained=false \
        --set model.backbone.batch_norm=frozen --set data.augment.views=0 --set train.epochs=12 \
        --set train.batch_size=8 --set optim.weight_decay=0.1 --seeds 8
"""

from tune.experiments.study import Study

PREFIXES, CAUSAL = {"data.observed": [0.2, 1.0]}, {"model.action.causal": True}

STUDY = Study(
    question="What helps to recognise an action before its clip has ended?",
    variants={"as released": {}, "prefixes": PREFIXES, "causal": CAUSAL, "both": {**PREFIXES, **CAUSAL}},
    reference="as released",
    base={
        "data.observed": [1.0, 1.0],
        "model.action.block": "transformer",
        "model.action.depth": 2,  # the action token reads the first layer of frames, which is causal or not
        "model.action.causal": False,
    },
    metrics=("action_early_auc", "action_accuracy", "hand_error_mm"),
    notes={
        "prefixes": "Each window ends at a random share of its clip, so an epoch has about 0.6 of the frames, also for "
        "the hands.",
        "causal": "A frame of block A sees earlier frames alone; the action token sees all frames so far.",
    },
)
