"""Several processes: torchrun in this process, which starts the command once for each."""

from __future__ import annotations

import logging
import os
import sys


def run_processes(processes: int) -> int | None:
    """Run this command in several processes and return their exit status; None in each of them, and for one."""
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return None
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.WARNING)  # the processes speak for themselves
    given = iter(sys.argv[1:])
    # torchrun would take --nproc for its own
    rest = [word for word in given if not (word == "--nproc" and next(given)) and not word.startswith("--nproc=")]
    arguments = ["--standalone", f"--nproc-per-node={processes}", "-m", "mmvae", *rest]
    try:
        run.run(run.parse_args(arguments))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    except (SignalException, KeyboardInterrupt):
        return 130
    return 0
