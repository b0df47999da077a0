"""A SAML identity provider: a key of its own, and responses that it signs."""

import base64
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from onelogin.saml2.constants import OneLogin_Saml2_Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from config.environment import sign_in

NAMES = 'xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"'
OURS = "http://testserver/admin/login/saml/idp/"


def instant(minutes: int = 0) -> str:
    return f"{datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class SamlProvider:
    """An identity provider with an entity ID."""

    entity_id: str = "https://idp.acme.example/metadata"
    sso_url: str = "https://idp.acme.example/sso"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @cached_property
    def certificate(self) -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp.acme.example")])
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def settings(self) -> dict[str, object]:
        """Return SOCIALACCOUNT_PROVIDERS for this provider."""
        return sign_in.saml_provider(
            entity_id=self.entity_id, sso_url=self.sso_url, certificate=self.certificate, name="Acme SAML"
        )

    def sign(
        self,
        xml: str,
        algorithm: str = OneLogin_Saml2_Constants.RSA_SHA256,
        digest: str = OneLogin_Saml2_Constants.SHA256,
    ) -> str:
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        signed = OneLogin_Saml2_Utils.add_sign(
            xml, private, self.certificate, sign_algorithm=algorithm, digest_algorithm=digest
        )
        return signed.decode() if isinstance(signed, bytes) else signed

    def assertion(self, *, subject: str, request_id: str, **changes: str) -> str:
        """Return an assertion about a subject, without a signature."""
        facts = {
            "id": "_assertion1",
            "issuer": self.entity_id,
            "audience": f"{OURS}metadata/",
            "recipient": f"{OURS}acs/",
            "until": instant(5),
            **changes,
        }
        asked = f'InResponseTo="{request_id}"' if request_id else ""
        return (
            f'<saml:Assertion {NAMES} ID="{facts["id"]}" Version="2.0" IssueInstant="{instant()}">'
            f"<saml:Issuer>{facts['issuer']}</saml:Issuer>"
            '<saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">'
            f"{subject}</saml:NameID>"
            '<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData'
            f' NotOnOrAfter="{facts["until"]}" Recipient="{facts["recipient"]}" {asked}/>'
            "</saml:SubjectConfirmation></saml:Subject>"
            f'<saml:Conditions NotBefore="{instant(-5)}" NotOnOrAfter="{facts["until"]}"><saml:AudienceRestriction>'
            f"<saml:Audience>{facts['audience']}</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
            f'<saml:AuthnStatement AuthnInstant="{instant()}" SessionIndex="1"><saml:AuthnContext>'
            "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext>"
            "</saml:AuthnStatement></saml:Assertion>"
        )

    def response(self, assertion: str, *, request_id: str, destination: str = f"{OURS}acs/") -> str:
        """Return a response with this content."""
        asked = f' InResponseTo="{request_id}"' if request_id else ""
        return (
            f'<samlp:Response {NAMES} ID="_response1" Version="2.0" IssueInstant="{instant()}"'
            f' Destination="{destination}"{asked}><saml:Issuer>{self.entity_id}</saml:Issuer><samlp:Status>'
            '<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>'
            f"{assertion}</samlp:Response>"
        )


def request_id_of(address: str) -> str:
    """Return the ID of the request in the URL to which our login page leads."""
    packed = parse_qs(urlsplit(address).query)["SAMLRequest"][0]
    return ElementTree.fromstring(zlib.decompress(base64.b64decode(packed), -15)).attrib["ID"]  # noqa: S314 - ours
