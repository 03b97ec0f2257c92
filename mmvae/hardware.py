"""What the machine has: device, precision, threads and memory, chosen for speed where it is safe."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

import torch


def best_device() -> torch.device:
    """This process's accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", "0")))


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes faster in bfloat16. Emulated, it is 2 to 16 times slower than float32; by the
    AVX-512 instructions of Intel's processors, which have half as many units for it, up to 2 times."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    intel = str(capabilities.get("cpu_name", "")).startswith("Intel")
    fast = capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not intel)
    return device.type == "cpu" and bool(fast)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Networks in bfloat16 where the recipe says so, or where "auto" finds it faster."""
    wanted = precision == "bf16" or (precision == "auto" and has_bf16(device))
    return torch.autocast(device.type, torch.bfloat16) if wanted else contextlib.nullcontext()


def free_cores() -> int:
    """Cores this process may use that nobody else keeps busy now, at least 1: threads that wait cost more than they
    give. Looks for a fifth of a second."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    mine = min(mine, _quota())
    if mine == 1 or not Path("/proc/stat").exists():
        return mine
    before = _cpu_times()
    time.sleep(0.2)
    idle, total = (after - earlier for after, earlier in zip(_cpu_times(), before, strict=True))
    return max(1, round(mine * idle / max(total, 1)))


def _quota() -> int:
    """Cores that a container grants, at least 1."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):  # none, or "max"
        return sys.maxsize


def _cpu_times() -> tuple[int, int]:
    """Idle and total ticks of all cores since the machine started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def use_threads(wanted: int | None) -> None:
    """Set the CPU threads of this process: as wanted, or its share of this machine's free cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(wanted or max(1, free_cores() // processes))


def free_memory() -> None:
    """Give back what glibc keeps and nothing uses: rows of unlike length leave holes that would grow for ever."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_memory() -> None:
    """Ask glibc to keep freed memory for the next step rather than give it back: up to 1.4 times faster training."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)
