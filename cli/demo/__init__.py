"""`lossbook demo`: the main job, end to end, with real daemons."""
