"""Progress on a terminal: one line that tells the adapter, the stage and how far it is; silent into a file."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class ConsoleProgress:
    """Shows stages as they come; a context manager. Fits :class:`guards.interface.Progress`."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to ``console``; standard error when not given, so that standard output stays clean."""
        self.console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._about = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show ``done`` of ``total`` steps of ``stage``."""
        description = f"{self._about}: {stage}" if self._about else stage
        if self._task is None:
            self._task = self._progress.add_task(description, total=total)
        self._progress.update(self._task, description=description, completed=done, total=total)

    def about(self, what: str) -> None:
        """Name what the coming stages are about, for instance an adapter."""
        self._about = what
        self("starting", 0, 1)

    def say(self, line: str) -> None:
        """Print one lasting line above the bar, cut where the terminal ends."""
        self.console.print(line, highlight=False, markup=False, no_wrap=True, overflow="ellipsis")
