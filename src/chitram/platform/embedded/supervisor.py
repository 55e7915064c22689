"""Keeps services running: starts them in order, again when one dies, and stops them in reverse."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.process import Process, readable
from chitram.platform.embedded.service import Service, await_ready, failure
from chitram.platform.embedded.signals import StopSignals

# More deaths of one service than this within the window are a fault that restarting will not cure.
MAX_DEATHS = 5
WINDOW_SECONDS = 60.0
# How long a service waits after its first, second, ... death within the window.
_BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass(slots=True)
class _Place:
    """A service, its process unless it waits to be started again, and when it died lately."""

    service: Service
    process: Process | None
    restart_at: float = 0.0
    deaths: deque[float] = field(default_factory=deque)


class Supervisor:
    """Runs services as children of this process.

    Args:
        signals: entered by the caller; one of them ends `watch`, another hurries `stop`.
        say: shows one line to the user.
        changed: told after a service was started again.
    """

    def __init__(
        self,
        signals: StopSignals,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._signals = signals
        self._say = say
        self._changed = changed
        self._places: list[_Place] = []

    def start(self, service: Service) -> Process:
        """Start a service and wait until it is ready.

        It stays this supervisor's to stop even when it does not get ready. Raises `StartError`, or
        `StopRequested` when a signal comes first.
        """
        process = self.begin(service)
        self.await_ready(service, process)
        return process

    def begin(self, service: Service) -> Process:
        """Start a service, like `start`, but wait for nothing."""
        self._check()
        process = service.spawn()
        self._places.append(_Place(service, process))
        return process

    def await_ready(self, service: Service, process: Process) -> None:
        """Wait until a service that was begun is ready; raises like `start`."""
        await_ready(service, process, self._check)

    def _check(self) -> None:
        """Raise when there is no use in waiting: on a signal, or when another service has ended."""
        self._signals.check()
        for place in self._places:
            if place.process and place.process.wait(0) is not None:
                raise failure(place.process, f"{place.service.name} {place.process.ending()} as it started.")

    @property
    def processes(self) -> dict[str, int]:
        """Process ids of what runs, by name."""
        return {place.service.name: place.process.pid for place in self._places if place.process}

    def watch(self) -> None:
        """Keep everything running until a signal comes.

        Raises `StartError` when a service dies too often.
        """
        self._signals.hold()
        while not readable([self._signals.fileno()], 0):
            self._wait()
            for place in self._places:
                self._attend(place)

    def _wait(self) -> None:
        """Sleep until a signal, a death or the time of a restart."""
        descriptors = [place.process.fileno() for place in self._places if place.process]
        due = [place.restart_at for place in self._places if place.process is None]
        seconds = min(due) - time.monotonic() if due else None
        readable([self._signals.fileno(), *descriptors], seconds)

    def _attend(self, place: _Place) -> None:
        if place.process and place.process.wait(0) is not None:
            self._say(f"{place.service.name} {place.process.ending()}; starting it again.")
            self._died(place)
        if place.process is None and place.restart_at <= time.monotonic():
            self._restart(place)

    def _died(self, place: _Place) -> None:
        log = place.process.log if place.process else None
        place.process = None
        now = time.monotonic()
        place.deaths.append(now)
        while place.deaths[0] < now - WINDOW_SECONDS:
            place.deaths.popleft()
        if len(place.deaths) > MAX_DEATHS:
            where = f" Its log is {log.path}." if log else ""
            raise StartError(
                f"{place.service.name} died {len(place.deaths)} times within a minute: "
                f"stopping everything.{where}"
            )
        place.restart_at = now + _BACK_OFF_SECONDS[len(place.deaths) - 1]

    def _restart(self, place: _Place) -> None:
        try:
            place.process = place.service.spawn()
        except StartError as error:
            self._say(f"{place.service.name} could not be started again: {error}")
            self._died(place)
        else:
            self._changed()

    def stop(self) -> None:
        """Stop everything, the last started first; a signal from here on hurries it."""
        self._signals.hold()
        while self._places:
            place = self._places.pop()
            if place.process:
                place.process.stop(place.service.stop, self._signals.fileno())
