"""Requests to untrusted URLs: only to public addresses and with a deadline."""

import socket
import threading
import time
from ipaddress import ip_address

import pytest

from delivery.webhooks import safe_http
from delivery.webhooks.safe_http import NotAllowed, Unreachable
from tests.support.machine import slowdown


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::10.0.0.1",
     "ff02::1", "192.88.99.1", "3fff::1", "fec0::1", "5f00::1", "192.0.0.8", "::127.0.0.1", "64:ff9b::192.88.99.1"],
)  # fmt: skip
def test_address_of_a_private_network_is_not_public(address):
    assert not safe_http.is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_address_of_the_internet_is_public(address):
    assert safe_http.is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    ["", "hooks", "ftp://x.example/", "file:///etc/passwd", "http://", "http://user:pass@x.example/", "http://[::1",
     "http://x.example:99999/", "http://x.example:0/", "http://x.example/a b", "http://x.example/\r\nX: y",
     "http://127.0.0.1/", "http://[::1]:8000/", "https://10.0.0.7/hook"],
)  # fmt: skip
def test_invalid_url_is_refused_before_dns(url):
    with pytest.raises(NotAllowed):
        safe_http.check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "017700000001"])
def test_host_of_this_machine_is_refused(host):
    with pytest.raises(NotAllowed, match="private network"):
        safe_http.post(f"http://{host}:8000/", b"{}", headers={})


def test_unknown_host_is_unreachable():
    with pytest.raises(Unreachable, match="cannot be resolved"):
        safe_http.post("https://hooks.invalid/", b"{}", headers={})


def test_slow_answer_is_aborted(settings, monkeypatch):
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(safe_http, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(safe_http, "RESPONSE_TIMEOUT", 0.3)
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                for _ in range(100):
                    connection.sendall(b"H")
                    time.sleep(0.05)
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()

    with pytest.raises(Unreachable):
        safe_http.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", headers={})

    assert time.monotonic() - began < 3 * slowdown()
    thread.join()
    server.close()
