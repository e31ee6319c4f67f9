"""Who may ask."""

import pytest

from histo_mlflow.errors import ServeError
from histo_mlflow.inference.serving.access import (
    allowed_hosts,
    check_host,
    check_origin,
    check_token,
    checked_token,
    is_loopback,
)
from histo_mlflow.inference.serving.answers import RefusedError

TOKEN = "correct-horse-battery"


def headers(**named: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert checked_token(None, host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_any_other_host_demands_one(host: str) -> None:
    with pytest.raises(ServeError, match="Expected a token, since others can reach"):
        checked_token(None, host)
    assert checked_token(TOKEN, host) == TOKEN


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "with a space in it", "gr\u00fcn" * 8])
def test_an_unfit_token_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(ServeError) as caught:
        checked_token(token, "127.0.0.1")
    assert "16 printable ASCII" in str(caught.value)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens(scheme: str) -> None:
    check_token(headers(authorization=f"{scheme} {TOKEN}"), TOKEN)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"},
        {"authorization": "Bearer \u00e9\u00e9\u00e9\u00e9"},
        {"cookie": f"token={TOKEN}"},
    ],
)
def test_nothing_else_does(given: dict[str, str]) -> None:
    with pytest.raises(RefusedError) as caught:
        check_token(headers(**given), TOKEN)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5002", "LOCALHOST:1", "127.0.0.1:80", "[::1]:5002", "lab.test"]
)
def test_a_loopback_server_answers_to_its_own_names(host: str) -> None:
    check_host(headers(host=host), allowed_hosts("127.0.0.1", ["Lab.test"]))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.test",
        "localhost.evil.test",
        "127.0.0.1.evil.test:5002",
        "localhost:5002@evil.test",
        "localhost/evil",
        "a b",
        "[::1].evil",
        "localhost:99999999",
    ],
)
def test_and_to_no_other(host: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_host(headers(host=host), allowed_hosts("127.0.0.1", []))
    assert caught.value.status == 400


def test_beyond_loopback_names_are_checked_when_some_were_given() -> None:
    assert allowed_hosts("0.0.0.0", []) is None
    check_host(headers(host="whatever"), None)
    named = allowed_hosts("0.0.0.0", ["lab.test"])
    check_host(headers(host="lab.test"), named)
    with pytest.raises(RefusedError):
        check_host(headers(host="evil.test"), named)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"origin": "http://localhost:5002"},
        {"origin": "http://LOCALHOST:5002"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_programs_and_the_own_page_may_send(given: dict[str, str]) -> None:
    check_origin(headers(host="localhost:5002", **given))


@pytest.mark.parametrize(
    "given",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://localhost"},
        {"origin": "http://localhost:5003"},
        {"origin": "file://localhost:5002"},
        {"origin": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://localhost:5002", "sec_fetch_site": "cross-site"},
    ],
)
def test_pages_of_other_sites_may_not(given: dict[str, str]) -> None:
    with pytest.raises(RefusedError) as caught:
        check_origin(headers(host="localhost:5002", **given))
    assert caught.value.status == 403
