"""The server's configuration: where a value comes from, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError
from samplecache.service.config import DEFAULT_LISTEN, KernelName, ServerConfig


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's."""
    for name in ServerConfig.model_fields:
        monkeypatch.delenv(f"SAMPLECACHE_{name.upper()}", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A TOML file that sets three values."""
    path = tmp_path / "samplecache.toml"
    path.write_text('budget = "1MiB"\nseed = 1\ndevice = "hdd-7200"\n')
    return path


def test_flags_win_over_the_environment_that_over_the_file_that_over_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLECACHE_SEED", "2")
    monkeypatch.setenv("SAMPLECACHE_DEVICE", "ssd-sata")
    config = ServerConfig.load(file, device="zram-lz4", budget=None)
    assert (config.budget, config.seed, config.device) == (1 << 20, 2, "zram-lz4")
    assert (config.memory, config.listen, config.kernel) == (256 << 20, (DEFAULT_LISTEN,), KernelName.LINUX)


def test_without_file_and_environment_there_are_the_defaults() -> None:
    config = ServerConfig.load()
    assert config == ServerConfig.model_validate({})
    assert config.cache_settings().upload_ttl_ns == 60 * NS_PER_S
    assert config.lock_budget is None


def test_every_field_is_described() -> None:
    assert [name for name, field in ServerConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4096", 4096), ("64KiB", 64 << 10), ("64 MiB", 64 << 20), ("2GiB", 2 << 30), ("1MB", 10**6), ("0", 0)],
)
def test_sizes_take_suffixes(monkeypatch: pytest.MonkeyPatch, text: str, size_bytes: int) -> None:
    monkeypatch.setenv("SAMPLECACHE_SWAP", text)
    assert ServerConfig.load().swap == size_bytes


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ("a:1", ("a:1",)),
        ("a:1,unix:/run/b.sock", ("a:1", "unix:/run/b.sock")),
        (" a:1 , b:2, ", ("a:1", "b:2")),
        (["a:1", "b:2"], ("a:1", "b:2")),
        (("a:1",), ("a:1",)),
    ],
)
def test_addresses_are_separated_by_commas(listen: object, addresses: tuple[str, ...]) -> None:
    assert ServerConfig.load(listen=listen).listen == addresses


def test_the_environment_and_the_file_name_several_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.toml").write_text('listen = ["a:1", "b:2"]')
    (tmp_path / "b.toml").write_text('listen = "a:1,b:2"')
    assert ServerConfig.load(tmp_path / "a.toml").listen == ("a:1", "b:2")
    assert ServerConfig.load(tmp_path / "b.toml").listen == ("a:1", "b:2")
    monkeypatch.setenv("SAMPLECACHE_LISTEN", "c:3,d:4")
    assert ServerConfig.load(tmp_path / "a.toml").listen == ("c:3", "d:4")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", "much"),
        ("budget", "64 MiBs"),
        ("budget", "-1"),
        ("budget", -1),
        ("lock_budget", "-4096"),
        ("memory", -1),
        ("swap", "1e400"),
        ("max_decoded", -1),
        ("max_upload", "nan"),
        ("seed", "x"),
        ("kernel", "windows"),
        ("listen", ""),
        ("listen", ","),
        ("listen", ()),
        ("max_samples", 0),
        ("max_sessions", -1),
        ("max_uploads", "many"),
        ("workers", 0),
        ("workers", 65),
        ("readers", 257),
        ("upload_ttl_s", 0),
        ("upload_ttl_s", "inf"),
        ("upload_ttl_s", "nan"),
        ("grace_s", -1),
        ("grace_s", "inf"),
        ("metrics_port", 65_536),
        ("metrics_port", -1),
    ],
)
def test_an_impossible_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ServerConfig.load(**{name: value})
    assert caught.value.details["setting"].startswith(name)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["budgte", "budget_bytes", "samplecache_budget"])
def test_an_unknown_name_is_refused_in_the_file_and_among_flags(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.toml").write_text(f'{name} = "1MiB"')
    flags: dict[str, Any] = {name: 1}
    for file, given in ((tmp_path / "a.toml", {}), (None, flags)):
        with pytest.raises(ConfigurationError) as caught:
            ServerConfig.load(file, **given)
        assert caught.value.details["setting"] == name


def test_other_programs_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLECACHE_SERVER", "unix:/run/samplecache.sock")
    assert ServerConfig.load() == ServerConfig.model_validate({})


@pytest.mark.parametrize(
    "content", [None, b"budget = ", b"\xff\xfe", b"budget = [1, 2]\n[listen]\n", b"a = 1\na = 2\n", b"\0"]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        ServerConfig.load(path)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path))):
        ServerConfig.load(tmp_path)
