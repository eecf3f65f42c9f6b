"""What is wrong with a data set: every file is read in full, and every finding kept instead of raised."""
