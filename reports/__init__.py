"""Reports of run folders as tables, figures and HTML pages; reads only files that runs have written."""
