r"""Study of motion forecasting: does the recognised action help, and what does the head change in hands and actions?

On features of a frozen encoder, a training takes seconds::

    python tune/ablate.py --study forecast --preset bench --set data.synthetic.train_clips=324 \
        --set data.synthetic.val_clips=72 --set model.backbone.trained=false --set model.backbone.batch_norm=frozen \
        --set data.augment.views=0 --set train.epochs=6 --set train.batch_size=8 --set optim.weight_decay=0.1 --seeds 8
"""

from tune.experiments.study import Study

FRAMES = 15
"""Frames ahead: 1 s of the rendered clips, 0.5 s of H2O."""

STUDY = Study(
    question="Can hands be forecast from block P's tokens, and does the action that block A recognises help?",
    variants={
        "forecast": {"model.forecast.frames": FRAMES},
        "forecast and action": {"model.forecast.frames": FRAMES, "model.forecast.action": True},
        "no forecast": {"model.forecast.frames": 0},
    },
    reference="forecast",
    base={
        "data.shifted_starts": False,
        "model.forecast.action": False,
        "model.pose.window": 8,  # the action is known from the first finished window of block P on
    },
    metrics=(
        "hand_error_mm",
        "action_accuracy",
        "forecast_error_mm",
        "forecast_error_200ms_mm",
        "forecast_gain_over_kept_mm",
        "forecast_gain_over_kept_200ms_mm",
        "forecast_gain_over_velocity_mm",
    ),
    notes={
        "forecast": "A gain above 0, with its interval, says that the head beats that baseline.",
        "no forecast": "It has no errors of forecasts; the claim is about hands and actions.",
    },
)
