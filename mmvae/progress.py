"""Progress for a person at a terminal, in a log file, or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

QUIET = 10.0  # seconds between lines where the output is not a terminal


class Display:
    """A bar with figures beside it on a terminal; elsewhere a line now and then."""

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._last = time.monotonic()
        self._began = ("", 0, 0.0)  # what is under way, how much was done when it was first heard of, and when
        self._bar: Progress | None = None
        if shown and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("loading", figures="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, what: str, done: int, of: int, figures: Mapping[str, float] | None = None) -> None:
        """Show that `done` of `of` are done. Figures appear as "loss 12.3"."""
        now = time.monotonic()
        if what != self._began[0]:
            self._began = (what, done, now)
        text = "  ".join(f"{name} {value:,.4g}" for name, value in (figures or {}).items())
        if self._bar:
            self._bar.update(self._task, description=what, completed=done, total=of, figures=text[: self._room()])
        elif self.shown and now - self._last > QUIET:
            self._last = now
            _, before, start = self._began
            left = f"{(of - done) * (now - start) / (done - before):,.0f} s left" if done > before else ""
            self.console.print(f"{what} {done}/{of}  {text}  {left}".rstrip())

    def _room(self) -> int:
        """Characters for figures: on a narrow terminal they give way to the bar and the time left."""
        return max(0, self.console.width - 56)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self.shown:
            self.console.print(line, markup=False)


def tensorboard(folder: Path, step: int) -> Any:
    """A writer of TensorBoard's files in a run's folder; what was written there after a step is hidden."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
