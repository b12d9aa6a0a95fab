"""What leaves a run directory for others to use."""
