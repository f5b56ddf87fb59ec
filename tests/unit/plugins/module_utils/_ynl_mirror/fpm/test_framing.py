# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: however TCP cuts the stream, the same payloads come out; what is no FPM is refused."""

from __future__ import annotations

import os
import struct
from pathlib import Path as FilePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.common import TlsConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import (
    Deframer,
    FpmError,
    frame,
    frames,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.tls import (
    TlsError,
    client_context,
    identities,
    server_context,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    encode_done,
    messages,
    request,
)

payloads = st.lists(st.binary(max_size=300), max_size=12)


@given(payloads, st.lists(st.integers(0, 4000), max_size=20))
def test_arbitrary_cuts_of_the_stream_change_nothing(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(part) for part in parts)
    deframer, found, start = Deframer(), [], 0
    for cut in sorted(cut for cut in cuts if cut <= len(stream)):
        found += deframer.feed(stream[start:cut])
        start = cut
    found += deframer.feed(stream[start:])
    assert found == parts == list(Deframer().feed(stream))


def test_one_byte_at_a_time() -> None:
    parts = [b"", b"a", b"bc" * 40]
    deframer = Deframer()
    stream = b"".join(map(frame, parts))
    assert [payload for byte in stream for payload in deframer.feed(bytes([byte]))] == parts


@given(st.binary(max_size=200), st.integers(0, 200))
@example(b"\x01\x01\x00\x03", 0)
@example(b"GET / HTTP/1.1\r\n\r\n", 7)
@example(b"\x16\x03\x01\x02\x00\x01", 3)  # a TLS ClientHello on the plaintext port
def test_random_bytes_raise_nothing_but_fpm_error(data: bytes, cut: int) -> None:
    deframer = Deframer()
    try:
        for part in (data[:cut], data[cut:]):
            for payload in deframer.feed(part):
                assert len(payload) <= len(data) - 4
    except FpmError as error:
        assert "not an FPM frame" in str(error)


@pytest.mark.parametrize("header", [(2, 1, 4), (1, 2, 4), (1, 1, 3), (0, 0, 0)])
def test_another_version_type_or_an_impossible_length_is_refused(header: tuple[int, int, int]) -> None:
    with pytest.raises(FpmError, match="version {}, type {}, length {}".format(*header)):
        list(Deframer().feed(struct.pack(">BBH", *header)))


def test_frames_before_the_broken_one_come_out_first() -> None:
    stream = Deframer().feed(frame(b"good") + b"\xff\xff\xff\xff")
    assert next(stream) == b"good"
    with pytest.raises(FpmError):
        next(stream)


@given(st.lists(st.integers(0, 3000), max_size=60))
def test_messages_are_packed_whole_and_in_order_into_full_frames(sizes: list[int]) -> None:
    batch = [request(24, 0, bytes([number % 256]) * (size & ~3)) for number, size in enumerate(sizes)]
    found = list(frames(batch))
    assert b"".join(payload for part in found for payload in Deframer().feed(part)) == b"".join(batch)
    for part in found:
        (length,) = struct.unpack_from(">H", part, 2)
        assert length == len(part) <= 65535
        assert all(kind == 24 for kind, _flags, _start, _end in messages(part[4:]))
    assert all(len(one) + len(next_) > 32768 for one, next_ in zip(found, found[1:]))


def test_the_end_of_a_replay_is_one_frame_that_any_consumer_can_read() -> None:
    (payload,) = Deframer().feed(b"".join(frames([encode_done()])))
    assert [kind for kind, _flags, _start, _end in messages(payload)] == [3]


# -- TLS


def tls(folder: FilePath, mode: int = 0o600) -> TlsConfig:
    files = {}
    for name in ("ca", "certificate", "key"):
        file = folder / f"{name}.pem"
        file.write_text("no certificate")
        file.chmod(mode if name == "key" else 0o644)
        files[name] = str(file)
    return TlsConfig(**files)


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o660, 0o602])
def test_a_key_that_others_may_read_or_change_is_refused_by_name(tmp_path: FilePath, mode: int) -> None:
    with pytest.raises(TlsError, match=r"key\.pem has mode 0\d+; run chmod 0600"):
        server_context(tls(tmp_path, mode))


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
def test_a_missing_file_is_named(tmp_path: FilePath, missing: str) -> None:
    config = tls(tmp_path)
    os.unlink(tmp_path / f"{missing}.pem")
    with pytest.raises(TlsError, match=rf"{missing}\.pem cannot be read: No such file"):
        client_context(config, check_hostname=True)


def test_a_file_that_is_no_certificate_is_named(tmp_path: FilePath) -> None:
    with pytest.raises(TlsError, match=r"ca\.pem is not a CA certificate in PEM format"):
        server_context(tls(tmp_path))


def test_the_names_of_a_certificate_are_its_alternative_names_then_its_common_name() -> None:
    certificate = {
        "subject": ((("organizationName", "x"),), (("commonName", "ekho-host"),)),
        "subjectAltName": (("DNS", "host.example"), ("IP Address", "192.0.2.1"), ("email", "a@b")),
    }
    assert identities(certificate) == ["host.example", "192.0.2.1", "ekho-host"]
    assert identities({"subject": ((("commonName", "one"),),), "subjectAltName": (("DNS", "one"),)}) == ["one"]
    assert identities({}) == []
