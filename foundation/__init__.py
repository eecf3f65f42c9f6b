"""What everything stands on: errors, files, locks, digests, run folders. It imports nothing else of the project."""
