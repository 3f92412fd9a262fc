"""The soup of Z80 programs (Section 3.3): the processor, its instructions, its grid, its texts."""

from lib.life.z80.processor import Z80Trace, run_z80, trace_z80
from lib.life.z80.soup import REPLICATORS, Z80Soup, advance, plant, primordial
from lib.life.z80.text import disassemble

__all__ = [
    "REPLICATORS",
    "Z80Soup",
    "Z80Trace",
    "advance",
    "disassemble",
    "plant",
    "primordial",
    "run_z80",
    "trace_z80",
]
