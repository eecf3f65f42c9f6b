"""A job of SLURM as a forked command: started in place of ``python -u -m <module> <words>``."""

import sys
from importlib.util import find_spec

from tests.commands import Forked

if __name__ == "__main__":
    _, _, module, *words = sys.argv[1:]  # -u -m module words
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    job = Forked(spec.origin, *words, output=1)
    sys.exit(job.wait())
