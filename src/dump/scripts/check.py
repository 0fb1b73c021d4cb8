"""Prints the release of a dump's kernel, read from the kernel's memory through its page tables. Run by drgn."""

import sys

if not prog["init_task"].comm.string_().startswith(b"swapper"):
    sys.exit("the first task is not the idle task")
print(prog["init_uts_ns"].name.release.string_().decode())
