"""Study of the temporal layer of both blocks: attention, a bidirectional LSTM, or a mean."""

from tune.experiments.study import Study

STUDY = Study(
    question="Which layer should combine the frames of a window?",
    variants={
        name: {"model.pose.block": block, "model.action.block": block}
        for name, block in (("transformer", "transformer"), ("BiLSTM", "lstm"), ("mean", "mean"))
    },
    reference="transformer",
    notes={"mean": "Block P gives all frames of a window the same token, and so the same hands."},
)
