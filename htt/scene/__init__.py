"""A little rendered world behind the synthetic source: two hands, eight objects, a table; numpy alone.

``plan`` says which clips there are, ``render`` draws one. Everything in a clip follows from its plan: exact joints in
camera space, intrinsics, object and action as in H2O. The road from a seed to pixels::

    programs (verbs as key frames), timing -> motion -> stage (all vertices) -> raster -> shading -> exposure
    skeleton -> hand_surface -> hand_mesh -> hands ;  grasp: hands meet objects ;  subject, room: who and where ;
    head: where the camera looks ;  passer: somebody beside

Hands, objects and rooms come from formulas in these files; no third-party asset is used.
"""

from __future__ import annotations

from htt.scene.clip import SPLITS, ClipPlan, RenderedClip, plan, render
from htt.scene.motion.programs import ACTIONS
from htt.scene.things.objects import OBJECTS

__all__ = ["ACTIONS", "OBJECTS", "SPLITS", "ClipPlan", "RenderedClip", "plan", "render"]
