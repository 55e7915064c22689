from __future__ import annotations

from pathlib import Path

import pytest

from chitram.platform.settings import (
    Settings,
    SettingsError,
    data_dir,
    decoder_count,
    default_data_dir,
    load_settings,
    spool_dir,
)


def test_everything_has_a_default() -> None:
    assert load_settings({"PATH": "/bin"}) == Settings()


def test_variables_are_converted() -> None:
    settings = load_settings(
        {
            "CHITRAM_HTTP_PORT": "9000",
            "CHITRAM_DECODE_SECONDS": "2.5",
            "CHITRAM_ALLOWED_FORMATS": "png, jpeg",
        }
    )
    assert (settings.http_port, settings.decode_seconds) == (9000, 2.5)
    assert settings.allowed_formats == ("png", "jpeg")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "70000"),
        ("HTTP_PORT", "http"),
        ("MAX_UPLOAD_BYTES", "-1"),
        ("METADATA_POLICY", "perhaps"),
        ("ALLOWED_FORMATS", "jpeg,gif"),
        ("LOG_LEVEL", "loud"),
        ("UPLOAD_BODY_SECONDS", "0"),
        ("DECODE_SECONDS", "nan"),
        ("DELETE_TOKEN_SECONDS", "1000000000000"),
        ("ALLOWED_FORMATS", ""),
        ("UPLOADS_PER_MINUTE", "-1"),
        ("QUOTA_BYTES", "-1"),
        ("QUOTA_BYTES", str(2**63)),
        ("QUOTA_IMAGES", str(2**64)),
        ("FORWARDED_HEADER", "x-real-ip"),
        ("TRUSTED_PROXIES", "127.0.0.1,proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("RATE_LIMIT_ALLOW", "2001:db8::/129"),
        ("VALKEY_URL", "127.0.0.1:6379"),
        ("VALKEY_URL", "valkey+sentinel://127.0.0.1:26379/main"),
        ("VALKEY_URL", "valkey://127.0.0.1:70000/0"),
        ("DATABASE_URL", "mysql://u:p@127.0.0.1/chitram"),
        ("DATABASE_URL", "postgresql://u:not/encoded@127.0.0.1/chitram"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"CHITRAM_{name}"):
        load_settings({f"CHITRAM_{name}": value})


def test_a_misspelt_variable_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="CHITRAM_HTTP_PROT"):
        load_settings({"CHITRAM_HTTP_PROT": "8000"})


def test_a_file_gives_what_no_variable_does(tmp_path: Path) -> None:
    config = tmp_path / "chitram.toml"
    config.write_text('http_port = 9000\nlog_format = "json"\nallowed_formats = ["png"]\n')
    settings = load_settings({"CHITRAM_CONFIG": str(config), "CHITRAM_HTTP_PORT": "9001"})
    assert (settings.http_port, settings.log_format) == (9001, "json")
    assert settings.allowed_formats == ("png",)


@pytest.mark.parametrize("content", ["http_prot = 1", "http_port = ", "http_port = 'x'"])
def test_a_wrong_file_is_refused(tmp_path: Path, content: str) -> None:
    config = tmp_path / "chitram.toml"
    config.write_text(content)
    with pytest.raises(SettingsError, match=r"http_prot|chitram\.toml|HTTP_PORT"):
        load_settings({"CHITRAM_CONFIG": str(config)})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CHITRAM_CONFIG"):
        load_settings({"CHITRAM_CONFIG": str(tmp_path / "none.toml")})


def test_data_of_root_goes_where_an_unprivileged_postgresql_can_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir({}) == Path("/var/lib/chitram")


def test_data_of_a_user_goes_where_the_desktop_keeps_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/chitram")
    assert default_data_dir({}) == Path.home() / ".local/share/chitram"


def test_a_data_directory_that_is_set_wins(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    assert data_dir(settings) == tmp_path
    assert spool_dir(settings) == tmp_path / "spool"


def test_processes_share_the_processors_among_their_decoders_and_have_one_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert decoder_count(Settings(http_workers=2)) == 5
    assert decoder_count(Settings(http_workers=16)) == 1
    assert decoder_count(Settings(decoders=3)) == 3


@pytest.mark.parametrize(
    "url", ["", "https://pictures.example.org", "http://127.0.0.1:8000/", "https://[2001:db8::1]:8443"]
)
def test_a_public_address_has_a_host_and_perhaps_a_port(url: str) -> None:
    assert load_settings({"CHITRAM_PUBLIC_BASE_URL": url}).public_base_url == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "pictures.example.org",
            "ftp://example.org",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://a#b",
        ),
        *("https://user:s3cr3t@example.org", "https://a b", "https://a\n", "javascript:alert(1)", "//a"),
    ],
)
def test_any_other_public_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="CHITRAM_PUBLIC_BASE_URL") as refusal:
        load_settings({"CHITRAM_PUBLIC_BASE_URL": url})
    assert "s3cr3t" not in str(refusal.value)
