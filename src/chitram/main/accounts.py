"""`chitram admin create-admin` and `chitram admin user`: accounts from the command line."""

from __future__ import annotations

import argparse
import getpass
import secrets
import sys
from typing import TYPE_CHECKING

from dishka import AsyncContainer
from msgspec import UNSET

from chitram.accounts.domain.errors import AccountNotFound
from chitram.accounts.domain.user import Email, User
from chitram.accounts.ports import AccountTransactions, EmailReader
from chitram.accounts.queries import AccountQueries, AccountView
from chitram.accounts.use_cases.change_account import ChangeAccount, ChangeAccountCommand
from chitram.accounts.use_cases.create_admin import CreateAdmin, CreateAdminCommand
from chitram.accounts.use_cases.set_password import SetPassword, SetPasswordCommand
from chitram.kernel.errors import ChitramError
from chitram.platform.settings import MOST_QUOTA

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

_GENERATED_BYTES = 18
_MOST_CHARACTERS = 4096


def add_to(commands: Subparsers) -> None:
    """Make the commands known. None takes a password as an argument, which any user could see."""
    create = commands.add_parser(
        "create-admin",
        help="make an administrator's account; the password is asked for, or read from standard input",
    )
    create.set_defaults(command=_create_admin)
    create.add_argument("email", metavar="EMAIL")
    create.add_argument("--generate", action="store_true", help="make a password and print it once")
    create.add_argument(
        "--promote", action="store_true", help="make an account that is there an administrator's, unasked"
    )
    user = commands.add_parser("user", help="show an account, or change it")
    user.set_defaults(command=_user)
    user.add_argument("email", metavar="EMAIL")
    active = user.add_mutually_exclusive_group()
    active.add_argument("--activate", dest="is_active", action="store_const", const=True, default=UNSET)
    active.add_argument(
        "--deactivate",
        dest="is_active",
        action="store_const",
        const=False,
        help="end its sessions and let it do nothing; its images stay",
    )
    user.add_argument(
        "--demote",
        dest="is_admin",
        action="store_const",
        const=False,
        default=UNSET,
        help="an administrator's no more",
    )
    for name, noun in (("--quota-bytes", "bytes"), ("--quota-images", "images")):
        user.add_argument(
            name,
            type=_quota,
            default=UNSET,
            metavar="N",
            help=f"how many {noun} it may keep; 0 is any number, `default` as the settings say",
        )
    user.add_argument(
        "--set-password",
        action="store_true",
        help="give it another password, which is asked for or read from standard input; ends its sessions",
    )
    user.add_argument("--generate", action="store_true", help="with --set-password: make one and print it")


def _quota(text: str) -> int | None:
    if text == "default":
        return None
    number = int(text)
    if not 0 <= number <= MOST_QUOTA:
        raise ValueError(text)
    return number


async def _create_admin(container: AsyncContainer, given: argparse.Namespace) -> int:
    email = (await container.get(EmailReader))(given.email)
    found = await _find(container, email)
    if found:
        if not given.promote and not _confirmed(f"There is an account {email.address}. Make it an admin's?"):
            raise ChitramError(f"There is an account {email.address}; --promote makes it an administrator's.")
        await (await container.get(ChangeAccount))(
            ChangeAccountCommand(email=email, is_admin=True, is_active=True)
        )
        sys.stdout.write(f"{email.address} is an administrator.\n")
        return 0
    password = _new_password(generate=given.generate)
    await (await container.get(CreateAdmin))(CreateAdminCommand(email, password))
    sys.stdout.write(f"{email.address} is an administrator.\n")
    _tell(password, generated=given.generate)
    return 0


async def _user(container: AsyncContainer, given: argparse.Namespace) -> int:
    email = (await container.get(EmailReader))(given.email)
    user = await _find(container, email)
    if user is None:
        raise AccountNotFound
    change = ChangeAccountCommand(
        email=email,
        is_active=given.is_active,
        is_admin=given.is_admin,
        quota_bytes=given.quota_bytes,
        quota_images=given.quota_images,
    )
    if change != ChangeAccountCommand(email=email):
        await (await container.get(ChangeAccount))(change)
    if given.set_password:
        password = _new_password(generate=given.generate)
        await (await container.get(SetPassword))(SetPasswordCommand(email, password))
        _tell(password, generated=given.generate)
    account = await (await container.get(AccountQueries)).find(user.id)
    if account:
        sys.stdout.write(_describe(account))
    return 0


async def _find(container: AsyncContainer, email: Email) -> User | None:
    async with (await container.get(AccountTransactions)).begin() as transaction:
        found = await transaction.users.find(email)
    return found[0] if found else None


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _new_password(*, generate: bool) -> str:
    """Make a password, ask a person for one twice, or read the first line of standard input."""
    if generate:
        return secrets.token_urlsafe(_GENERATED_BYTES)
    if not sys.stdin.isatty():
        return sys.stdin.readline(_MOST_CHARACTERS).rstrip("\r\n")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("The same again: ")
    except EOFError:
        raise ChitramError("No password was given.") from None
    if password != again:
        raise ChitramError("The two passwords are not the same.")
    return password


def _tell(password: str, *, generated: bool) -> None:
    if generated:
        sys.stdout.write(f"password: {password}\n")


def _describe(account: AccountView) -> str:
    def of(quota: int | None) -> str:
        return "without a limit" if quota is None else f"of {quota}"

    lines = {
        "id": account.id,
        "e-mail": account.email,
        "active": "yes" if account.is_active else "no",
        "administrator": "yes" if account.is_admin else "no",
        "since": f"{account.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "bytes": f"{account.used_bytes} {of(account.quota_bytes)}",
        "images": f"{account.used_images} {of(account.quota_images)}",
    }
    return "".join(f"{name + ':':<15}{value}\n" for name, value in lines.items())
