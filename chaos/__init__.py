"""Real daemons under faults from outside, and a judge of what their clients saw."""
