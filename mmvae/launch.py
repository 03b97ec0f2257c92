"""Several processes: the command becomes torchrun, which starts it once for each."""

from __future__ import annotations

import os
import sys


def become_torchrun(processes: int) -> None:
    """Replace this process by torchrun with the same arguments but --nproc; where torchrun started it, do nothing."""
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return
    given = iter(sys.argv[1:])
    # torchrun would take --nproc for its own
    rest = [word for word in given if not (word == "--nproc" and next(given)) and not word.startswith("--nproc=")]
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "mmvae"]
    os.execv(sys.executable, [sys.executable, *command, *rest])
