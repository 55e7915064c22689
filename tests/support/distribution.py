"""How pytest-xdist deals the tests out to its workers."""

from __future__ import annotations

from itertools import groupby

from xdist.scheduler import LoadScopeScheduling


class LoadRunsScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist comes without types
    """Deals out whole runs of tests of one file, in the order in which they would run otherwise.

    Pytest has sorted them so that what several files share, such as an API over one kind of store,
    is started once. Whole files would have it started for each, as a file's tests over another
    kind of store come with it.
    """

    _run_of: dict[str, str] | None = None

    def _split_scope(self, nodeid: str) -> str:
        if self._run_of is None:
            runs = groupby(self.collection, key=lambda each: each.partition("::")[0])
            self._run_of = {
                each: f"{number} {file}" for number, (file, members) in enumerate(runs) for each in members
            }
        return self._run_of[nodeid]
