"""What is trained and scored, one file a stage: its settings, data, network and description."""
