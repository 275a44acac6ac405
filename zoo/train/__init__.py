"""Training: losses, optimisers, schedules, and the Lightning side of a task. Knows no domain."""
