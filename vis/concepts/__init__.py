"""Concepts: what a layer knows, found in data, and how much it matters for a score."""

from vis.concepts.atlas import ActivationAtlas
from vis.concepts.craft import CRAFT
from vis.concepts.neighbours import NearestExamples
from vis.concepts.tcav import TCAV

__all__ = ["CRAFT", "TCAV", "ActivationAtlas", "NearestExamples"]
