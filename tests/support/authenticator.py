"""Authenticators: an app with codes for a secret, and a device with a passkey."""

import hashlib
import json
import re
import time
from html import unescape

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.models import User
from django.test import Client
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code_of(secret: str = SECRET, *, step: int = 0) -> str:
    """Return the code of an app now, or some steps of 30 seconds later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + step))


def wrong_code(secret: str = SECRET) -> str:
    valid = {code_of(secret, step=step) for step in range(-3, 4)}
    return next(code for code in ("000000", "111111", "222222") if code not in valid)


def set_up_app(user: User) -> Authenticator:
    """Give a teammate an app with SECRET."""
    return TOTP.activate(user, SECRET).instance


class Passkey:
    """A passkey of a device, for our host, with a counter of signatures."""

    def __init__(self) -> None:
        self.key, self.id, self.count = ec.generate_private_key(ec.SECP256R1()), b"passkey-of-a-test", 0

    def data(self, *, host: str, is_verified: bool, credential: bytes = b"") -> AuthenticatorData:
        flags = AuthenticatorData.FLAG.UP
        if is_verified:
            flags |= AuthenticatorData.FLAG.UV
        if credential:
            flags |= AuthenticatorData.FLAG.AT
        return AuthenticatorData.create(hashlib.sha256(host.encode()).digest(), flags, self.count, credential)

    def create(self, challenge: str) -> str:
        """Return the answer of a browser that creates the passkey."""
        public = ES256.from_cryptography_key(self.key.public_key())
        data = self.data(
            host="testserver",
            is_verified=True,
            credential=AttestedCredentialData.create(b"\0" * 16, self.id, public),
        )
        client = CollectedClientData.create("webauthn.create", challenge, "https://testserver")
        response = {"attestationObject": websafe_encode(AttestationObject.create("none", data, {}))}
        return self.answer(client, response)

    def sign(
        self,
        challenge: str,
        *,
        handle: str = "",
        origin: str = "https://testserver",
        host: str = "testserver",
        is_verified: bool = True,
    ) -> str:
        """Return the answer of a browser that uses the passkey; count the signature."""
        self.count += 1
        client = CollectedClientData.create("webauthn.get", challenge, origin)
        data = self.data(host=host, is_verified=is_verified)
        signature = self.key.sign(data + client.hash, ec.ECDSA(hashes.SHA256()))
        response = {"authenticatorData": websafe_encode(data), "signature": websafe_encode(signature)}
        return self.answer(client, {**response, "userHandle": handle} if handle else response)

    def answer(self, client: CollectedClientData, response: dict[str, str]) -> str:
        response = {"clientDataJSON": websafe_encode(client), **response}
        name = websafe_encode(self.id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def passkey_options(page: str) -> dict[str, dict]:
    """Return the options that a page gives to the browser."""
    found = re.search(r'<script id="passkey-options"[^>]*>(.*?)</script>', page, re.DOTALL)
    (options,) = json.loads(unescape(found[1])).values()
    return options["publicKey"]


def add_passkey(client: Client, passkey: Passkey) -> str:
    """Add the passkey to the account of a client that is logged in; return the handle of the teammate."""
    path = "/admin/account/passkeys/add/"
    options = passkey_options(client.get(path).content.decode())
    added = client.post(path, {"name": "Key", "credential": passkey.create(options["challenge"])})
    assert added.status_code == 302, added.content.decode()
    return options["user"]["id"]
