"""Concepts: what a layer knows, found in data or given by examples, and how much it matters for a score."""

from vis.concepts.craft import CRAFT
from vis.concepts.neighbours import NearestExamples
from vis.concepts.tcav import TCAV

__all__ = ["CRAFT", "NearestExamples", "TCAV"]
