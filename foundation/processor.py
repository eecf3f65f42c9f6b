"""What this computer's processor can do, without importing PyTorch."""

from __future__ import annotations

import functools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Flags of processors that multiply bfloat16 faster than float32; others emulate it, which is slower."""


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions that multiply bfloat16; False where the system does not say."""
    try:
        lines = CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return not BFLOAT16.isdisjoint(flags.split())
