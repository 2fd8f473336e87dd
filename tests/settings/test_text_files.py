"""Files as people have them: any editor of any system may have saved them."""

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings
from app.settings.secret_files import read_secret_file
from app.settings.text_files import read_text_file

ENCODERS: dict[str, Callable[[str], bytes]] = {
    "Unix": str.encode,
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "UTF-8 with BOM and CRLF": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "UTF-16 little endian": lambda text: codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16 big endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
}
encoded = pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)


@pytest.mark.field("C5")
@encoded
def test_a_text_is_the_same_however_it_was_saved(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    text = "# Überschrift\nport = 8081\n"
    (tmp_path / "file").write_bytes(encode(text))
    assert read_text_file(tmp_path / "file") == text


@pytest.mark.field("C5")
@encoded
def test_the_configuration_the_url_and_secrets_are_taken(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    toml, url, secret = tmp_path / "ngt.toml", tmp_path / "url", tmp_path / "secret"
    toml.write_bytes(encode("# für alle\nport = 8081\n"))
    url.write_bytes(encode("postgresql://ngt@h/ngt\n"))
    secret.touch(mode=0o600)
    secret.write_bytes(encode("geheim\n"))
    settings = load_settings(toml, {"DATABASE_URL_FILE": str(url), "NGT_RENEWAL_HOST": "127.0.0.2\r"})
    assert settings.port == 8081
    assert settings.host == "127.0.0.2"
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://ngt@h/ngt"
    assert read_secret_file(secret) == "geheim"


@pytest.mark.field("C5")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("port = 1\n# f\u00fcr".encode("latin-1"), "line 2 is not in UTF-8: save the file in UTF-8"),
        ("port = 1".encode("utf-16-le"), "it holds NUL characters, as a file in UTF-16 without a mark does"),
        (codecs.BOM_UTF16_LE + b"p\0o", "is not in UTF-16-LE: save the file in UTF-8"),
    ],
)
def test_what_is_not_text_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    toml = tmp_path / "ngt.toml"
    toml.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load_settings(toml, {})
    assert f"The configuration file {toml} is not valid TOML in UTF-8: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.field("C6")
def test_a_user_without_a_home_has_a_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    (tmp_path / "ngt.toml").touch()
    assert isinstance(load_settings(tmp_path / "ngt.toml", {}), Settings)
