"""HTT: per-frame 3D hand pose and the action of a clip, from egocentric RGB video (Wen et al., CVPR 2023)."""

__version__ = "0.1.0"
