"""Use of a trained model on frames that are in no data set.

::

    from htt.inference import Predictor

    predictor = Predictor.load("runs/final/checkpoint")
    result = predictor(frames, intrinsics)
    print(result.joints_m[0], result.top_actions())
"""

from htt.inference.predictor import Predictions, Predictor

__all__ = ["Predictions", "Predictor"]
