"""Study of the temporal layer of both blocks: attention, a bidirectional LSTM, or a mean."""

from tune.experiments.study import Study

STUDY = Study(
    question="What should join the frames of a window?",
    variants={
        name: {"model.pose.block": block, "model.action.block": block}
        for name, block in (("transformer", "transformer"), ("BiLSTM", "lstm"), ("mean", "mean"))
    },
    reference="transformer",
    notes={"mean": "Block P tells all frames of its window the same, so all of them get the same hands."},
)
