"""Submission files of H2O's test server: creation from a model's predictions, and checks of any such file.

::

    action_labels/answer.zip    one member, action_labels.json:  {"modality": "RGB", "1": 32, ... "242": 22}
    hand_poses/answer.zip       one member, hand_poses.json:     {"modality": "RGB", "1": {"000000.txt": [...]} ...}

Actions are H2O's ids, 1 to 36. The 126 numbers of a frame are the 21 joints of the left hand, then of the right one, x
y z each, in metres and camera space; a frame is named by its number in the recording.

Source: the submission format of the H2O challenge (Kwon et al. 2021).
"""
