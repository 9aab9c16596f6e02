"""How long somebody waits for a worker, in seconds."""

LOOK_EVERY_S = 2.0
"""Between two looks at what others do."""

SLOW_STAGE_S = 900.0
"""For what has no step time yet: imports, compilation, the first step, what comes from far away."""
