# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of OpenSSH, Ed25519."""

from __future__ import annotations

import os


def make_key(path: str) -> None:
    """A private key in a file of mode 0600; one that is there stays."""
    if os.path.exists(path):
        return
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    form = serialization.PrivateFormat.OpenSSH
    made = Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(made)
    os.replace(path + ".new", path)


def public_key(path: str) -> str:
    """The public half of a private key's file, as a line of ``authorized_keys``."""
    from cryptography.hazmat.primitives import serialization

    with open(path, "rb") as file:
        private = serialization.load_ssh_private_key(file.read(), None)
    public = private.public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def private_key(path: str) -> str:
    """The text of a private key's file."""
    with open(path, encoding="ascii") as file:
        return file.read()
