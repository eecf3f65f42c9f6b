"""From run folders to tables, figures and one HTML page; reads what runs have written and nothing else."""
