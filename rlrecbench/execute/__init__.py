"""Run stages: locally on slots, with progress, and export their results."""
