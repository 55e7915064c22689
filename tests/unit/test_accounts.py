"""What accounts do, over stand-ins: what is refused, how much is done, and lost answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.adapters.emails import read_email
from chitram.accounts.domain.errors import (
    AccountNotFound,
    EmailTaken,
    InvalidCredentials,
    InvalidToken,
    RegistrationClosed,
    TokenExpired,
    WeakPassword,
)
from chitram.accounts.domain.session import hash_refresh_token
from chitram.accounts.domain.user import Email, User
from chitram.accounts.domain.work import FORGET_CREDENTIALS, SESSION_ID, USER_ID
from chitram.accounts.use_cases.change_account import ChangeAccount, ChangeAccountCommand
from chitram.accounts.use_cases.clear_sessions import ClearSessions
from chitram.accounts.use_cases.create_admin import CreateAdmin, CreateAdminCommand
from chitram.accounts.use_cases.end_session import EndSession, EndSessionCommand
from chitram.accounts.use_cases.new_password import NewPasswords
from chitram.accounts.use_cases.opening import SessionOpener, SessionRules, SignedIn
from chitram.accounts.use_cases.refresh_session import RefreshCommand, RefreshSession
from chitram.accounts.use_cases.register_user import RegisterCommand, RegisterUser, RegistrationRules
from chitram.accounts.use_cases.set_password import SetPassword, SetPasswordCommand
from chitram.accounts.use_cases.sign_in import SignIn, SignInCommand
from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable
from tests.support.fake_accounts import (
    FakeAccountTransactions,
    FakeHasher,
    FakeSessionCache,
    FakeSignInLimit,
)
from tests.support.fakes import AuditLine, FakeAuditLog, FakeClock

EMAIL = Email.of("someone@example.com")
PASSWORD = "long enough"
COMMON = frozenset({"common password"})
RULES = SessionRules(timedelta(days=30), most=3)


@dataclass
class World:
    """Everything that accounts can do, over stand-ins."""

    transactions: FakeAccountTransactions = field(default_factory=FakeAccountTransactions)
    hasher: FakeHasher = field(default_factory=FakeHasher)
    cache: FakeSessionCache = field(default_factory=FakeSessionCache)
    limit: FakeSignInLimit = field(default_factory=FakeSignInLimit)
    clock: FakeClock = field(default_factory=FakeClock)
    is_open: bool = True

    @property
    def tokens(self) -> JwtAccessTokens:
        return JwtAccessTokens(("a-key-that-only-tests-ever-sign-with",), timedelta(minutes=15), self.clock)

    @property
    def opener(self) -> SessionOpener:
        return SessionOpener(self.transactions, self.tokens, self.cache, self.limit, self.clock, RULES)

    @property
    def passwords(self) -> NewPasswords:
        return NewPasswords(self.hasher, COMMON)

    @property
    def end(self) -> EndSession:
        return EndSession(self.transactions, self.cache, self.clock)

    async def register(self, email: str = EMAIL.address, password: str = PASSWORD) -> SignedIn:
        rules = RegistrationRules(self.is_open)
        register = RegisterUser(self.transactions, self.passwords, read_email, self.opener, self.clock, rules)
        return await register(RegisterCommand(email, password, "home"))

    async def sign_in(
        self, email: str = EMAIL.address, password: str = PASSWORD, client: str | None = "home"
    ) -> SignedIn:
        sign_in = SignIn(self.transactions, self.hasher, read_email, self.limit, self.opener, self.clock)
        return await sign_in(SignInCommand(email, password, client))

    async def refresh(self, token: str) -> SignedIn:
        refresh = RefreshSession(self.transactions, self.tokens, self.end, self.clock, RULES)
        return await refresh(RefreshCommand(token))

    async def change(self, command: ChangeAccountCommand) -> User:
        return await ChangeAccount(self.transactions, self.cache, FakeAuditLog(), self.clock)(command)

    def revoked(self) -> list[bool]:
        """Of all sessions, in the order of their ids."""
        sessions = sorted(self.transactions.tables.sessions.values(), key=lambda each: each.created_at)
        return [session.revoked_at is not None for session in sessions]

    def owed(self) -> list[tuple[str, dict[str, str]]]:
        return list(self.transactions.tables.outbox.values())

    def user(self) -> User:
        (user,) = self.transactions.tables.users.values()
        return user


@pytest.fixture
def world() -> World:
    return World()


async def test_registering_makes_an_account_and_a_session_in_one_transaction(world: World) -> None:
    signed_in = await world.register("Some.One@Example.com")
    tables = world.transactions.tables
    assert world.transactions.commits == 1
    assert world.user() == signed_in.user
    assert signed_in.user.email == Email("Some.One@example.com", "some.one@example.com")
    (session,) = tables.sessions.values()
    assert session.expires_at == world.clock.now() + RULES.life
    assert session.origin == "hash of home"
    assert tables.refresh_tokens == {hash_refresh_token(signed_in.refresh_token): (session.id, None)}
    claims = world.tokens.read(signed_in.access_token)
    assert (claims.user_id, claims.session_id) == (signed_in.user.id, session.id)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short77", "too_short"),
        ("x" * 257, "too_long"),
        ("Common Password", "common"),
        ("SomeOne@Example.com", "same_as_email"),
        ("someone", "too_short"),
    ],
    ids=["short", "long", "common", "address", "name"],
)
async def test_a_weak_password_is_refused_before_it_is_hashed(
    world: World, password: str, reason: str
) -> None:
    with pytest.raises(WeakPassword) as refused:
        await world.register(password=password)
    assert refused.value.details["reason"] == reason
    assert (world.hasher.hashed, world.transactions.begun) == ([], 0)


async def test_the_name_before_the_at_is_no_password_either(world: World) -> None:
    with pytest.raises(WeakPassword, match="address"):
        await world.register("longer.name@example.com", "Longer.Name")


async def test_nobody_registers_while_it_is_closed(world: World) -> None:
    world.is_open = False
    with pytest.raises(RegistrationClosed):
        await world.register()
    assert world.hasher.hashed == []


async def test_an_address_that_is_taken_is_refused(world: World) -> None:
    await world.register()
    with pytest.raises(EmailTaken):
        await world.register(EMAIL.address.upper())
    assert len(world.transactions.tables.sessions) == 1


async def test_every_refusal_to_sign_in_costs_the_same(world: World) -> None:
    """Addresses that exist, do not exist and are deactivated cannot be told apart by time."""
    await world.register()
    await world.register("inactive@example.com")
    await world.change(ChangeAccountCommand(email=Email.of("inactive@example.com"), is_active=False))
    costs = []
    for email, password in (
        (EMAIL.address, "not that one"),
        ("nobody@example.com", PASSWORD),
        ("inactive@example.com", PASSWORD),
        ("inactive@example.com", "not that one"),
    ):
        begun = world.transactions.begun
        world.hasher.verified.clear()
        world.hasher.hashed.clear()
        world.limit.taken.clear()
        with pytest.raises(InvalidCredentials) as refused:
            await world.sign_in(email, password, "elsewhere")
        costs.append(
            (
                len(world.hasher.verified),
                len(world.hasher.hashed),
                world.transactions.begun - begun,
                len(world.limit.taken),
                str(refused.value),
            )
        )
    assert costs == [(1, 0, 1, 1, InvalidCredentials.default_message)] * 4


async def test_a_hash_with_other_parameters_is_renewed_when_somebody_signs_in(world: World) -> None:
    await world.register()
    world.hasher.version = 2
    with pytest.raises(InvalidCredentials):
        await world.sign_in(password="not that one")
    assert world.user().password_hash == f"1:{PASSWORD}"
    await world.sign_in()
    assert world.user().password_hash == f"2:{PASSWORD}"
    world.hasher.hashed.clear()
    await world.sign_in()
    assert world.hasher.hashed == []


class RenewedMeanwhile(FakeHasher):
    """Somebody else changes the account while its password is being verified, once."""

    def __init__(self, world: World, **changes: object) -> None:
        super().__init__()
        self._world = world
        self._changes = changes

    async def verify(self, password_hash: str | None, password: str) -> bool:
        tables = self._world.transactions.tables
        for user_id, user in list(tables.users.items()):
            tables.users[user_id] = replace(user, **self._changes)  # type: ignore[arg-type] # its fields
        return await super().verify(password_hash, password)


async def test_a_hash_that_was_renewed_meanwhile_is_verified_again(world: World) -> None:
    await world.register()
    world.hasher = RenewedMeanwhile(world, password_hash=f"3:{PASSWORD}")
    world.hasher.version = 3
    await world.sign_in()
    assert [password_hash for password_hash, _ in world.hasher.verified] == [f"1:{PASSWORD}", f"3:{PASSWORD}"]


@pytest.mark.parametrize("changes", [{"password_hash": "1:another"}, {"is_active": False}])
async def test_a_change_of_the_account_meanwhile_counts(world: World, changes: dict[str, object]) -> None:
    await world.register()
    world.hasher = RenewedMeanwhile(world, **changes)
    with pytest.raises(InvalidCredentials):
        await world.sign_in()
    assert len(world.transactions.tables.sessions) == 1


async def test_strangers_are_counted_by_account_and_the_familiar_are_not(world: World) -> None:
    await world.register()
    await world.sign_in(client="home")
    assert world.limit.taken == []
    await world.sign_in(client="elsewhere")
    with pytest.raises(InvalidCredentials):
        await world.sign_in("nobody@example.com", client="home")
    assert world.limit.taken == [EMAIL.key, "nobody@example.com"]
    # Now somebody who knew the password has come from there.
    await world.sign_in(client="elsewhere")
    assert len(world.limit.taken) == 2


async def test_a_stranger_who_is_refused_by_the_limit_costs_no_hash(world: World) -> None:
    await world.register()
    world.limit.error = InvalidToken("too many")
    with pytest.raises(InvalidToken, match="too many"):
        await world.sign_in(client="elsewhere")
    assert world.hasher.verified == []
    # The owner gets in all the same, and so does whoever nothing limits.
    await world.sign_in(client="home")
    await world.sign_in(client=None)


async def test_the_oldest_session_makes_room_and_is_forgotten(world: World) -> None:
    await world.register()
    for _ in range(RULES.most):
        world.clock.advance(seconds=1)
        await world.sign_in()
    assert world.revoked() == [True, False, False, False]
    (oldest,) = world.cache.forgotten
    assert world.owed() == [(FORGET_CREDENTIALS, {SESSION_ID: str(oldest)})]


async def test_each_refresh_prolongs_the_session(world: World) -> None:
    signed_in = await world.register()
    tokens = [signed_in.refresh_token]
    for _ in range(5):
        world.clock.advance(days=29)
        tokens.append((await world.refresh(tokens[-1])).refresh_token)
    assert len(set(tokens)) == len(tokens)
    (session,) = world.transactions.tables.sessions.values()
    assert session.expires_at == world.clock.now() + RULES.life
    assert session.last_used_at == world.clock.now()


async def test_a_session_that_is_not_renewed_ends(world: World) -> None:
    signed_in = await world.register()
    world.clock.advance(days=30)
    with pytest.raises(TokenExpired):
        await world.refresh(signed_in.refresh_token)
    assert world.revoked() == [False]


async def test_any_used_token_of_a_session_ends_it(world: World) -> None:
    first = await world.register()
    second = await world.refresh(first.refresh_token)
    third = await world.refresh(second.refresh_token)
    with pytest.raises(InvalidToken):
        await world.refresh(first.refresh_token)
    assert world.revoked() == [True]
    (session_id,) = world.cache.forgotten
    assert world.owed() == [(FORGET_CREDENTIALS, {SESSION_ID: str(session_id)})]
    with pytest.raises(InvalidToken):
        await world.refresh(third.refresh_token)


async def test_the_account_has_to_be_active_to_refresh(world: World) -> None:
    signed_in = await world.register()
    tables = world.transactions.tables
    tables.users[signed_in.user.id] = replace(signed_in.user, is_active=False)
    with pytest.raises(InvalidToken):
        await world.refresh(signed_in.refresh_token)


async def test_a_lost_answer_to_a_commit_is_looked_up(world: World) -> None:
    """What was committed is answered as such; a refresh token is never lost with the answer."""
    world.transactions.lose_answer = True
    signed_in = await world.register()
    again = await world.sign_in()
    refreshed = await world.refresh(again.refresh_token)
    world.transactions.lose_answer = False
    assert signed_in.user == again.user == refreshed.user
    await world.refresh(refreshed.refresh_token)
    assert world.revoked() == [False, False]


async def test_what_was_not_committed_is_no_answer(world: World) -> None:
    signed_in = await world.register()
    world.transactions.commit_error = CommitUncertain()
    for doing in (world.register("b@example.com"), world.sign_in(), world.refresh(signed_in.refresh_token)):
        with pytest.raises(CommitUncertain):
            await doing
    world.transactions.commit_error = None
    # Nothing has happened: the same token is still good.
    await world.refresh(signed_in.refresh_token)


async def test_a_database_that_hung_is_not_asked_again(world: World) -> None:
    world.transactions.commit_error = CommitUncertain(timed_out=True)
    begun = world.transactions.begun
    with pytest.raises(CommitUncertain):
        await world.register()
    assert world.transactions.begun == begun + 1


async def test_a_session_whose_end_is_uncertain_is_forgotten_all_the_same(world: World) -> None:
    await world.register()
    (session_id,) = world.transactions.tables.sessions
    world.transactions.lose_answer = True
    with pytest.raises(CommitUncertain):
        await world.end(EndSessionCommand(session_id))
    assert world.cache.forgotten == [session_id]


async def test_nobody_waits_for_caches_when_the_database_hung_at_the_end_of_a_session(world: World) -> None:
    """The answer has taken long already. If the end was committed, so was the row of the outbox."""
    await world.register()
    (session_id,) = world.transactions.tables.sessions
    world.transactions.commit_error = CommitUncertain(timed_out=True)
    with pytest.raises(CommitUncertain):
        await world.end(EndSessionCommand(session_id))
    assert world.cache.forgotten == []


async def test_a_session_that_could_not_be_ended_is_not_forgotten(world: World) -> None:
    await world.register()
    (session_id,) = world.transactions.tables.sessions
    world.transactions.commit_error = DatabaseUnavailable()
    with pytest.raises(DatabaseUnavailable):
        await world.end(EndSessionCommand(session_id))
    assert world.cache.forgotten == []


async def test_ending_a_session_again_changes_nothing(world: World) -> None:
    await world.register()
    (session_id,) = world.transactions.tables.sessions
    await world.end(EndSessionCommand(session_id))
    ended = world.transactions.tables.sessions[session_id]
    world.clock.advance(hours=1)
    await world.end(EndSessionCommand(session_id))
    assert world.transactions.tables.sessions[session_id] == ended
    assert len(world.owed()) == 1


async def test_deactivating_ends_all_sessions_and_activating_revives_none(world: World) -> None:
    signed_in = await world.register()
    await world.sign_in()
    user = await world.change(ChangeAccountCommand(email=EMAIL, is_active=False))
    assert not user.is_active
    assert world.revoked() == [True, True]
    assert world.cache.accounts == [user.id]
    assert world.owed() == [(FORGET_CREDENTIALS, {USER_ID: str(user.id)})]
    await world.change(ChangeAccountCommand(email=EMAIL, is_active=True))
    with pytest.raises(InvalidToken):
        await world.refresh(signed_in.refresh_token)
    await world.sign_in()


async def test_a_change_is_written_to_the_audit_log_without_an_actor(world: World) -> None:
    await world.register()
    user = await world.change(
        ChangeAccountCommand(email=EMAIL, is_admin=True, quota_bytes=5, quota_images=None)
    )
    assert (user.is_admin, user.quota_bytes, user.quota_images) == (True, 5, None)
    assert world.revoked() == [False]
    details: dict[str, str | int | bool | None] = {"is_admin": True, "quota_bytes": 5, "quota_images": None}
    assert world.transactions.tables.audit == [AuditLine(None, "user.change", f"user:{user.id}", details)]


async def test_an_account_that_is_not_there_cannot_be_changed(world: World) -> None:
    with pytest.raises(AccountNotFound):
        await world.change(ChangeAccountCommand(email=EMAIL, is_admin=True))
    assert world.transactions.tables.audit == []


async def test_an_administrator_is_made_while_registration_is_closed(world: World) -> None:
    world.is_open = False
    create = CreateAdmin(world.transactions, world.passwords, FakeAuditLog(), world.clock)
    user = await create(CreateAdminCommand(EMAIL, PASSWORD))
    assert (world.user(), user.is_admin) == (user, True)
    assert world.transactions.tables.audit == [AuditLine(None, "user.create-admin", f"user:{user.id}", {})]
    with pytest.raises(EmailTaken):
        await create(CreateAdminCommand(EMAIL, PASSWORD))
    with pytest.raises(WeakPassword):
        await create(CreateAdminCommand(Email.of("b@example.com"), "common password"))


async def test_another_password_ends_all_sessions(world: World) -> None:
    await world.register()
    set_password = SetPassword(world.transactions, world.passwords, world.cache, FakeAuditLog(), world.clock)
    await set_password(SetPasswordCommand(EMAIL, "another password"))
    assert world.revoked() == [True]
    assert world.cache.accounts == [world.user().id]
    (line,) = world.transactions.tables.audit
    assert line == AuditLine(None, "user.set-password", f"user:{world.user().id}", {})
    with pytest.raises(InvalidCredentials):
        await world.sign_in()
    await world.sign_in(password="another password")
    with pytest.raises(WeakPassword):
        await set_password(SetPasswordCommand(EMAIL, "short"))


async def test_sessions_are_cleared_a_day_after_their_end_and_used_tokens_with_them(world: World) -> None:
    clear = ClearSessions(world.transactions, world.clock, RULES)
    token = (await world.register()).refresh_token
    for _ in range(3):
        token = (await world.refresh(token)).refresh_token
    world.clock.advance(days=30, hours=23)
    assert await clear() == 0
    world.clock.advance(hours=2)
    # The session and all its tokens, used or not.
    assert await clear() == 5
    assert world.transactions.tables.sessions == {}
    assert world.transactions.tables.refresh_tokens == {}


async def test_a_session_that_lives_on_keeps_no_token_that_nobody_may_bring_back(world: World) -> None:
    clear = ClearSessions(world.transactions, world.clock, RULES)
    tokens = [(await world.register()).refresh_token]
    for _ in range(3):
        world.clock.advance(days=20)
        tokens.append((await world.refresh(tokens[-1])).refresh_token)
    assert await clear() == 1
    kept = world.transactions.tables.refresh_tokens
    assert [hash_refresh_token(token) in kept for token in tokens] == [False, True, True, True]
    with pytest.raises(InvalidToken):
        await world.refresh(tokens[0])
    assert world.revoked() == [False]
