# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority for tests: what it issues is what `tls` of a daemon's configuration takes."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A CA with its files in a folder of its own."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._serials: dict[str, int] = {}  # of the latest certificate of each name
        folder.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.private_key = _pem(self._key)
        self._name = _name(name)
        builder = self._builder(self._name, self._key.public_key(), -1, 365)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # Python 3.13 verifies strictly (RFC 5280): a CA says what its key is for, and which key it is.
        builder = builder.add_extension(_usage(key_cert_sign=True), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        self.file = str(folder / "ca.crt")
        Path(self.file).write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *more: str, expired: bool = False, ca: str | None = None) -> dict[str, str]:
        """A certificate for a DNS name and ``more`` names or addresses, as a `tls` object; ``ca`` for another one."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key.public_key(), *((-30, -1) if expired else (-1, 30)))
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in (name, *more)]), False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        signed = builder.sign(self._key, hashes.SHA256())
        self._serials[name] = signed.serial_number
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.touch(0o600)
        private.write_bytes(_pem(key))
        return {"ca": ca or self.file, "certificate": str(certificate), "key": str(private)}

    def revoke(self, *names: str, outdated: bool = False) -> str:
        """Write the list of revoked certificates, exactly these; its file, which is the same each time."""
        now = datetime.datetime.now(datetime.timezone.utc)
        end = now + datetime.timedelta(days=-1 if outdated else 30)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - datetime.timedelta(days=2)).next_update(end)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False).add_extension(x509.CRLNumber(1), critical=False)
        for name in names:
            revoked = x509.RevokedCertificateBuilder().serial_number(self._serials[name])
            builder = builder.add_revoked_certificate(revoked.revocation_date(now).build())
        crl = self._folder / "crl.pem"
        crl.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return str(crl)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, start: int, end: int) -> _Builder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=start))
            .not_valid_after(now + datetime.timedelta(days=end))
        )


_Builder = x509.CertificateBuilder


def client(tls: dict[str, str] | None, ca: str) -> ssl.SSLContext:
    """A client's context that trusts ``ca`` and shows ``tls``, or nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if tls is not None:
        context.load_cert_chain(tls["certificate"], tls["key"])
    return context


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
