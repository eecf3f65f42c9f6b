"""What runs: stages and their identity, settings, training, scoring, sweeps."""
