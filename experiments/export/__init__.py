"""Runs in other trackers: what a run folder logged, its scores and its gaze, replayed. Run folders are only read."""
