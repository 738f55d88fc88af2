"""`modalign status --watch`: follow the run at work in a workspace, from another process, until it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from config.errors import UserError
from flows.console import console_for
from storage.runs import outermost
from storage.told import Told, last_told, told_now

_LEAST = 0.1  # seconds between two looks


def follow(root: Path, interval: float, *, json_lines: bool) -> None:
    """Show how far the run at work is every `interval` seconds, until it ends; without one, how the last one ended.

    A live view on a terminal; elsewhere a line for each look that brings something new, or JSON lines.
    """
    if not interval >= _LEAST:
        raise UserError(f"an interval of {interval:g} s is too short", f"take at least {_LEAST:g}")
    at_work = outermost(root)
    if not at_work:
        ends = last_told(root)[-1:]
        if json_lines:
            print(json.dumps({"last": ends[0] if ends else None}, ensure_ascii=False))
        else:
            print("no run is at work" + (f"; the last one: {ended(ends[0])}" if ends else ""))
        return
    run_id = at_work[0].run_id
    show = _JsonLines() if json_lines else _Terminal()
    try:
        while any(run.run_id == run_id for run in outermost(root)):
            told = told_now(root, run_id)
            if told is not None:
                show.now(told)
            time.sleep(interval)
        ends = [one for one in last_told(root) if one["run_id"] == run_id]
        show.last(ends[-1] if ends else None)
    except KeyboardInterrupt:  # whoever looks away ends nothing
        pass
    finally:
        show.close()


def ended(told: Told) -> str:
    """How a run ended, in a line."""
    spent = [f"{on} {some:,.1f}" for on, some in told["spent_seconds"].items() if some >= 0.05 * told["wall_seconds"]]
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(told["until"]))
    return (
        f"{told['what']} {told['outcome']} {when} in {told['wall_seconds']:,.1f} s ({', '.join(spent)}), "
        f"peak memory {told['peak_bytes'] / 1e6:,.0f} MB"
    )


def line(told: Told) -> str:
    """How far a run is, in a line."""
    head = f"{told['what']}, {_span(told['at'] - told['since'])}"
    if told["waiting"]:
        return f"{head}: waits for {told['waiting']}"
    of = f" of {told['total']:,}" if told["total"] else ""
    left = "" if told["seconds_left"] is None else f", {_span(told['seconds_left'])} left"
    done = f": {told['done']:,}{of}, {told['per_second']:,.0f}/s{left}" if told["done"] or told["total"] else ""
    memory = f"{told['resident_bytes'] / 1e6:,.0f} MB, at most {told['peak_bytes'] / 1e6:,.0f}"
    return f"{head}: {told['stage']}{done}; {memory}"


def _span(seconds: float) -> str:
    """A time span.

    >>> _span(7.2), _span(3_725)
    ('7 s', '1:02:05')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class _JsonLines:
    """What is told, as it is; the last line is `{"last": …}`."""

    def now(self, told: Told) -> None:
        print(json.dumps(told, ensure_ascii=False), flush=True)

    def last(self, told: Told | None) -> None:
        print(json.dumps({"last": told}, ensure_ascii=False), flush=True)

    def close(self) -> None:
        """There is nothing to close."""


class _Terminal:
    """A view that is drawn anew on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = console_for()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._said = ""
        if self._live is not None:
            self._live.start()

    def now(self, told: Told) -> None:
        if self._live is not None:
            self._live.update(_view(told), refresh=True)
        elif (said := line(told)) != self._said:
            self._said = said
            print(said, flush=True)

    def last(self, told: Told | None) -> None:
        self.close()
        print("the run was killed; modalign doctor --fix" if told is None else ended(told))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _view(told: Told) -> RenderableType:
    parts: list[RenderableType] = [Text(line(told))]
    if told["total"]:
        parts.append(ProgressBar(total=told["total"], completed=told["done"], width=60))
    parts += [Text(f"  {problem}", style="yellow") for problem in told["problems"]]
    return Group(*parts)
