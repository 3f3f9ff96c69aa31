"""Actions and objects of H2O, which the rendered benchmark has as well.

Source: H2O data set documentation (Kwon et al. 2021).
"""

from __future__ import annotations

OBJECTS = ("book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")
"""Objects in H2O's order: index 0 is H2O's object 1."""

_VERBS = (
    ("grab", OBJECTS),
    ("place", OBJECTS),
    ("open", ("lotion", "milk", "chips")),
    ("close", ("lotion", "milk", "chips")),
    ("pour", ("milk",)),
    ("take out", ("espresso", "cocoa", "chips", "cappuccino")),
    ("put in", ("espresso", "cocoa", "cappuccino")),
    ("apply", ("lotion", "spray")),
    ("read", ("book", "espresso")),
    ("spray", ("spray",)),
    ("squeeze", ("lotion",)),
)
VERB_AND_NOUN = tuple((verb, noun) for verb, nouns in _VERBS for noun in nouns)
"""Verb and object of each action."""
ACTIONS = tuple(f"{verb} {noun}" for verb, noun in VERB_AND_NOUN)
"""The 36 actions in H2O's order: index 0 is H2O's action 1."""
