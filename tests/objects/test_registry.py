"""How STORAGE_URLS becomes stores, and what of it is refused."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.objects import registry
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.registry import ObjectStores, stores_from_settings
from chitram.platform.objects.remote import RemoteStore
from chitram.platform.settings import Settings, SettingsError
from tests.support.object_store import MemoryStore
from tests.support.seaweed import Seaweed

KEYS = {"AWS_ACCESS_KEY_ID": "an-access-key", "AWS_SECRET_ACCESS_KEY": "a/secret+key"}
SECRET = "s3cr3t"


def stores_of(urls: str, **environment: str) -> ObjectStores:
    return stores_from_settings(Settings(storage_urls=urls, data_dir="/nowhere"), environment)


async def test_without_a_setting_objects_lie_in_the_data_directory(tmp_path: Path) -> None:
    stores = stores_from_settings(Settings(data_dir=str(tmp_path)))
    assert [store.name for store in stores] == ["local"]
    await stores.start()
    await stores.primary.put("a-key", [b"x"], 1)
    assert (tmp_path / "objects" / "a-key").read_bytes() == b"x"
    await stores.aclose()


def test_the_first_store_takes_what_is_new_and_each_is_known_by_name() -> None:
    stores = stores_of("fast=file:///srv/fast, old=s3://pictures?endpoint=http://127.0.0.1:8333", **KEYS)
    assert [(store.name, type(store)) for store in stores] == [("fast", LocalStore), ("old", RemoteStore)]
    assert stores.primary is stores.by_name("fast")
    assert stores.by_name("old").name == "old"


def test_a_store_that_is_not_configured_is_unavailable() -> None:
    with pytest.raises(StorageUnavailable, match="not configured"):
        stores_of("").by_name("gone")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///srv/objects", "/srv/objects"),
        ("file:///srv/objects/", "/srv/objects"),
        ("file:///srv/my%20objects", "/srv/my objects"),
        ("file:///srv/a%2Cb=c", "/srv/a,b=c"),
    ],
)
async def test_a_file_url_is_a_directory(url: str, path: str, tmp_path: Path) -> None:
    stores = stores_of(f"local={url.replace('/srv', f'{tmp_path}/srv')}")
    await stores.start()
    assert (tmp_path / path[1:]).is_dir()
    await stores.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "s3://pictures",
        "s3://pictures/",
        "s3://my.pictures-1?region=eu-west-1",
        "s3://pictures?endpoint=https://account.r2.cloudflarestorage.com&region=auto",
        "s3://pictures?endpoint=http://object_store:8333/",
        "s3://pictures?endpoint=http://[::1]:8333",
        "s3://pictures?endpoint=http%3A%2F%2F127.0.0.1%3A8333",
        "s3://pictures?endpoint=http://store:8333&public=https://pictures.example.org/",
        f"s3://access:{quote('a/secret+key', safe='')}@pictures",
    ],
)
def test_an_s3_url_is_a_bucket(url: str) -> None:
    assert isinstance(stores_of(f"remote={url}", **KEYS).primary, RemoteStore)


@pytest.mark.parametrize("credentials", ["in the URL", "in the environment"])
async def test_credentials_come_from_the_url_or_the_environment(seaweed: Seaweed, credentials: str) -> None:
    access, secret = seaweed.bucket.access_key_id, seaweed.bucket.secret_access_key
    if credentials == "in the URL":
        userinfo = f"{quote(access, safe='')}:{quote(secret, safe='')}@"
        stores = stores_of(f"remote=s3://{userinfo}pictures?endpoint={seaweed.endpoint}", **KEYS)
    else:
        environment = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
        stores = stores_of(f"remote=s3://pictures?endpoint={seaweed.endpoint}", **environment)
    await stores.start()
    await stores.aclose()


@pytest.mark.parametrize(
    ("urls", "allowed"),
    [
        ("file:///srv", "name=url"),
        ("=file:///srv", "name=url"),
        ("Big=file:///srv", "name=url"),
        ("a b=file:///srv", "name=url"),
        (f"{'a' * 33}=file:///srv", "name=url"),
        ("a=file:///srv,", "entry 2"),
        ("a=file:///srv,a=file:///srv/two", "unlike the others"),
        ("a=", "file:/// or s3://"),
        ("a=/srv", "file:/// or s3://"),
        ("a=gs://bucket", "file:/// or s3://"),
        ("a=file://srv/objects", "absolute path"),
        ("a=file:srv", "absolute path"),
        ("a=file:///srv?mode=600", "absolute path"),
        ("a=file:///srv%00", "absolute path"),
        ("a=s3://", "bucket"),
        ("a=s3://UPPER", "bucket"),
        ("a=s3://pictures:80", "bucket"),
        ("a=s3://pictures/folder", "without a path"),
        ("a=s3://pictures#part", "without a path"),
        ("a=s3://pictures?style=path", "endpoint=…&region=…&public=…"),
        ("a=s3://pictures?nonsense", "malformed"),
        ("a=s3://[pictures", "malformed"),
        ("a=s3://pictures?region=", "region"),
        ("a=s3://pictures?region=a b", "region"),
        ("a=s3://pictures?endpoint=", "endpoint"),
        ("a=s3://pictures?endpoint=127.0.0.1:8333", "endpoint"),
        ("a=s3://pictures?endpoint=ftp://127.0.0.1", "endpoint"),
        ("a=s3://pictures?endpoint=http://127.0.0.1/path", "endpoint"),
        ("a=s3://pictures?endpoint=http://user@127.0.0.1", "endpoint"),
        ("a=s3://pictures?public=", "public"),
        ("a=s3://pictures?public=pictures.example.org", "public"),
        ("a=s3://pictures?public=https://pictures.example.org/path", "public"),
        (f"a=s3://{SECRET}@pictures", "s3://access:secret@bucket"),
        (f"a=s3://:{SECRET}@pictures", "s3://access:secret@bucket"),
        (f"a=s3://access:{SECRET}%0A@pictures", "percent-encoded"),
        (f"a=s3://access:{SECRET}/rest@pictures", "without a path"),
        (f"s3://access:{SECRET}@pictures?endpoint=http://127.0.0.1", "entry 1"),
    ],
)
def test_refuses_what_is_wrong_and_says_what_is_allowed(urls: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        stores_of(urls, **KEYS)
    assert "CHITRAM_STORAGE_URLS" in str(refusal.value)
    assert allowed in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_a_bucket_without_credentials_is_refused() -> None:
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY"):
        stores_of("a=s3://pictures", AWS_ACCESS_KEY_ID="only-half")


def refusal_of(urls: str) -> SettingsError | None:
    """What a setting is refused with; anything else that is raised passes through."""
    try:
        stores_of(urls, **KEYS)
    except SettingsError as refusal:
        return refusal
    return None


URL_TEXT = st.text(st.sampled_from("aZ0/:@?&=#%[]. ,;+-_\\\t\n\0é℀") | st.characters(), max_size=30)


@settings(deadline=None)  # the first client reads the certificates of this machine
@given(before=URL_TEXT, after=URL_TEXT, scheme=st.sampled_from(["", "file://", "s3://", "s3:", "http://"]))
@example(before="", after="℀pictures", scheme="s3://")
@example(before="", after=":99999999", scheme="s3://")
def test_junk_is_refused_and_never_repeated(before: str, after: str, scheme: str) -> None:
    for urls in (f"a={scheme}{before}{SECRET}{after}", f"{before}{scheme}k:{SECRET}@{after}"):
        refusal = refusal_of(urls)
        assert SECRET not in str(refusal)
        assert refusal is None or refusal.__cause__ is None


@settings(deadline=None)
@given(endpoint=URL_TEXT, region=URL_TEXT)
def test_junk_in_the_options_is_refused(endpoint: str, region: str) -> None:
    refusal_of(f"a=s3://pictures?endpoint=http://{endpoint}&region={region}")


async def test_every_store_is_started_before_a_failure_is_told(tmp_path: Path) -> None:
    nobody = ReservedPort()
    stores = stores_of(
        f"remote=s3://pictures?endpoint=http://127.0.0.1:{nobody.number},local=file://{tmp_path}/objects",
        **KEYS,
    )
    with pytest.raises(StorageUnavailable, match="'remote'"):
        await stores.start()
    await stores.by_name("local").put("a-key", [b"x"], 1)
    await stores.aclose()


async def test_what_could_not_be_started_is_started_later_and_the_rest_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_RETRY_SECONDS", 0.01)
    started: list[str] = []

    class Late(MemoryStore):
        async def start(self) -> None:
            started.append(self.name)
            if len(started) < 4:
                raise StorageUnavailable
            if len(started) == 4:
                raise SettingsError("not like this")

    late, local = Late("late"), LocalStore("local", tmp_path / "objects")
    stores = ObjectStores([local, late])
    with pytest.raises(StorageUnavailable, match="'late'"):
        await stores.start()
    (tmp_path / "objects").rename(tmp_path / "unplugged")
    await stores.start_later()
    assert started == ["late"] * 5
    assert not (tmp_path / "objects").exists()
    await stores.start_later()
    await stores.aclose()


async def test_a_folder_that_is_away_when_it_is_tried_again_is_not_made_anew(tmp_path: Path) -> None:
    store = LocalStore("local", tmp_path / "objects")
    await store.start()
    (tmp_path / "objects").rename(tmp_path / "unplugged")
    with pytest.raises(StorageUnavailable):
        await store.start()
    assert not (tmp_path / "objects").exists()
    await store.aclose()


async def test_a_wrong_setting_is_told_before_a_server_that_is_down(tmp_path: Path) -> None:
    down = MemoryStore("down")
    down.fail_with = StorageUnavailable()
    (tmp_path / "file").touch()
    stores = ObjectStores([down, LocalStore("wrong", tmp_path / "file")])
    with pytest.raises(SettingsError, match="'wrong'"):
        await stores.start()
    await stores.aclose()


def test_redirects_need_a_store_with_addresses_to_be_the_first() -> None:
    for urls in ("", "local=file:///srv", "local=file:///srv,remote=s3://pictures"):
        with pytest.raises(SettingsError, match="CHITRAM_FILE_DELIVERY=redirect"):
            stores_from_settings(Settings(storage_urls=urls, file_delivery="redirect"), KEYS)
    urls = "remote=s3://pictures,local=file:///srv"
    assert len([*stores_from_settings(Settings(storage_urls=urls, file_delivery="redirect"), KEYS)]) == 2
