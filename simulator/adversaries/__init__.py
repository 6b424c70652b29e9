"""Byzantine nodes, one a file. Their keys are genuine; what they sign, send and serve is up to them."""

from __future__ import annotations

from simulator.node import Node

LIARS: dict[str, type[Node]] = {}
"""By the name a plan gives them."""
