"""The command `chitram`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import http.client
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus

from chitram import __version__
from chitram.platform.embedded.errors import StartError
from chitram.platform.settings import Settings, SettingsError, data_dir, load_settings

_HEALTH_SECONDS = 4
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given_arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Admin has commands and options of its own, read by its own parser.
    own = given_arguments[:1] if given_arguments[:1] == ["admin"] else given_arguments
    parser = argparse.ArgumentParser(prog="chitram", description="A self-hosted image host.")
    parser.add_argument("--version", action="version", version=f"chitram {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (_, summary) in _COMMANDS.items():
        commands.add_parser(name, help=summary, description=summary)
    given = parser.parse_args(own)
    try:
        settings = load_settings()
        if given.command == "admin":
            with _uncollected():
                from chitram.main.admin import run as run_admin  # noqa: PLC0415 - see _COMMANDS

            return run_admin(settings, given_arguments[1:])
        command_run, _ = _COMMANDS[given.command]
        return command_run(settings)
    except (SettingsError, StartError) as error:
        print(f"chitram: {error}", file=sys.stderr)  # noqa: T201 - a command talks to its terminal
        return 1
    except KeyboardInterrupt:
        return 130


def _up(settings: Settings) -> int:
    from chitram.main.up import run  # noqa: PLC0415 - see _COMMANDS

    return run(settings)


def _api(settings: Settings) -> int:
    complete = _with_servers(settings)
    with _uncollected():
        from chitram.main.api import run  # noqa: PLC0415 - see _COMMANDS

    _await_servers(complete)
    return run(complete)


def _worker(settings: Settings) -> int:
    complete = _with_servers(settings)
    with _uncollected():
        from chitram.main.worker import run  # noqa: PLC0415 - see _COMMANDS

    _await_servers(complete)
    return run(complete)


def _migrate(settings: Settings) -> int:
    from chitram.platform.embedded.stack import attached, check_database  # noqa: PLC0415 - see _COMMANDS
    from chitram.platform.migrations import upgrade  # noqa: PLC0415 - see _COMMANDS

    if settings.database_url:
        check_database(settings.database_url)
        upgrade(settings.database_url)
        return 0
    with attached(settings) as complete:
        upgrade(complete.database_url)
    return 0


def _openapi(_: Settings) -> int:
    from chitram.main.api import document  # noqa: PLC0415 - see _COMMANDS

    json.dump(document(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
    return 0


def _healthcheck(settings: Settings) -> int:
    host = _WILDCARDS.get(settings.http_host, settings.http_host)
    # Not urllib, which would send this through a proxy that the environment names.
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=_HEALTH_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"chitram: not ready: {error}", file=sys.stderr)  # noqa: T201 - a command talks to its terminal
        return 1
    finally:
        connection.close()
    return 0 if status == HTTPStatus.OK else 1


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Import without looking for garbage, of which there is hardly any: a sixth faster.

    What was imported stays, so that looking for garbage later need not go through it either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _await_servers(settings: Settings) -> None:
    """Wait until the servers can be used, as long as an `up` is starting them."""
    from chitram.platform.embedded.directory import DataDirectory  # noqa: PLC0415 - see _COMMANDS

    DataDirectory(data_dir(settings)).await_started()


def _with_servers(settings: Settings) -> Settings:
    """Refuse to start a single process without servers: only `up` brings its own."""
    for name in ("database_url", "valkey_url"):
        if not getattr(settings, name):
            raise SettingsError(f"CHITRAM_{name.upper()} is empty. Set it, or use `chitram up`.")
    if not settings.secret_keys:
        raise SettingsError(
            "CHITRAM_SECRET_KEYS is empty. Set one or more random texts of at least 32 characters, "
            "the same for every process, or use `chitram up`."
        )
    return settings


# Commands import what they need when they run: `healthcheck` must not load half of the program.
_COMMANDS: dict[str, tuple[Callable[[Settings], int], str]] = {
    "up": (_up, "start everything in the foreground, with embedded servers where no URL is set"),
    "api": (_api, "serve the API, against servers named by their URLs"),
    "worker": (_worker, "work through background jobs, against servers named by their URLs"),
    "migrate": (_migrate, "bring the database schema up to date"),
    "admin": (lambda _: 2, "administration: `chitram admin --help` lists the commands"),
    "openapi": (_openapi, "print the OpenAPI document"),
    "healthcheck": (_healthcheck, "exit with 0 when the API on this machine is ready"),
}

if __name__ == "__main__":
    raise SystemExit(main())
