"""What the first bytes of an image say, hostile ones included."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.model.image import HEADER_BYTES, BadImage, read_header
from twinship.model.vm import ImageHeader

MIB = 1024**2
BACKING_FORMAT, BITMAPS = 0xE2792ACA, 0x23852875


def a_header(
    *,
    version: int = 3,
    backing: bytes = b"",
    backing_at: int | None = None,
    backing_len: int | None = None,
    cluster_bits: int = 16,
    size: int = 8 * MIB,
    crypt: int = 0,
    snapshots: int = 0,
    incompatible: int = 0,
    header_len: int = 104,
    extensions: tuple[tuple[int, bytes], ...] = (),
    end: bool = True,
) -> bytes:
    """A qcow2 header by hand, as QEMU's docs/interop/qcow2.txt lays it out."""
    body = b""
    for kind, data in extensions:
        body += struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)
    body += struct.pack(">II", 0, 0) if end else b""
    fixed = 72 if version == 2 else 104
    place = fixed + len(body) if backing else 0
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        place if backing_at is None else backing_at,
        len(backing) if backing_len is None else backing_len,
        cluster_bits,
        size,
        crypt,
        1,
        3 * 65536,
        65536,
        1,
        snapshots,
        0,
    )
    if version >= 3:
        head += struct.pack(">QQQII", incompatible, 0, 0, 4, header_len)
    return head + body + backing


def read(head: bytes) -> ImageHeader:
    return read_header(head, length_bytes=196_616)


def test_version_2_and_3_headers_are_read() -> None:
    old, new = read(a_header(version=2)), read(a_header(version=3))

    assert (old.format, old.compat, old.virtual_bytes) == ("qcow2", "0.10", 8 * MIB)
    assert (new.format, new.compat, new.virtual_bytes) == ("qcow2", "1.1", 8 * MIB)
    assert old.cluster_bytes == new.cluster_bytes == 65536


@pytest.mark.parametrize("version", [2, 3])
def test_a_backing_file_is_reported_as_written_and_never_followed(version: int) -> None:
    header = read(
        a_header(version=version, backing=b"/etc/shadow", extensions=((BACKING_FORMAT, b"raw"),))
    )

    assert header.backing_path == "/etc/shadow"
    assert header.backing_format == "raw"


def test_a_backing_name_that_is_no_utf8_comes_back_as_the_bytes_it_was() -> None:
    header = read(a_header(backing=b"/images/\xff\xfe.img"))

    assert header.backing_path.encode("utf-8", "surrogateescape") == b"/images/\xff\xfe.img"


@pytest.mark.parametrize(
    "head",
    [
        a_header(backing=b"x", backing_at=1 << 40),
        a_header(backing=b"x", backing_at=2**64 - 1),
        a_header(backing=b"base.img", backing_len=1024),
        a_header(backing=b"base.img", backing_len=2**32 - 1),
    ],
    ids=["far away", "wraps around", "longer than 1023", "longest"],
)
def test_a_backing_name_outside_the_header_is_refused(head: bytes) -> None:
    with pytest.raises(BadImage, match="backing file name"):
        read(head)


def test_an_extension_that_runs_out_of_the_header_is_refused() -> None:
    head = a_header(end=False) + struct.pack(">II", BACKING_FORMAT, 2**32 - 1) + b"raw"

    with pytest.raises(BadImage, match="extension"):
        read(head)


def test_unknown_extensions_are_passed_over() -> None:
    header = read(a_header(extensions=((0x6803F857, b"feature names"), (BACKING_FORMAT, b"qcow2"))))

    assert header.backing_format == "qcow2"


@pytest.mark.parametrize("version", [0, 1, 4, 2**32 - 1])
def test_unknown_versions_are_refused(version: int) -> None:
    with pytest.raises(BadImage, match=f"version {version}"):
        read(a_header(version=version))


@pytest.mark.parametrize("bits", [0, 8, 22, 2**32 - 1])
def test_impossible_cluster_sizes_are_refused(bits: int) -> None:
    with pytest.raises(BadImage, match="cluster size"):
        read(a_header(cluster_bits=bits))


def test_a_version_3_header_shorter_than_its_fields_is_refused() -> None:
    for length in (0, 72, 103):
        with pytest.raises(BadImage, match="header length"):
            read(a_header(header_len=length))


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_cut_off_anywhere_is_refused_or_still_whole(version: int) -> None:
    whole = a_header(version=version, backing=b"base.img", extensions=((BACKING_FORMAT, b"raw"),))
    for length in range(4, len(whole)):
        with pytest.raises(BadImage):
            read(whole[:length])
    assert read(whole).backing_path == "base.img"


def test_feature_bits_snapshots_bitmaps_and_encryption_are_seen() -> None:
    bitmaps = struct.pack(">IIQQ", 3, 0, 64, 65536)
    header = read(
        a_header(incompatible=0b111, snapshots=2, crypt=2, extensions=((BITMAPS, bitmaps),))
    )

    assert header.data_file
    assert header.dirty
    assert header.encrypted
    assert (header.snapshots, header.bitmaps) == (2, 3)
    assert header.features == ("dirty", "corrupt", "data_file")


def test_a_plain_image_has_none_of_it() -> None:
    header = read(a_header())

    assert (header.data_file, header.dirty, header.encrypted) == (False, False, False)
    assert (header.snapshots, header.bitmaps, header.features) == (0, 0, ())


@pytest.mark.parametrize(
    ("magic", "format"),
    [
        (b"KDMV", "vmdk"),
        (b"conectix", "vpc"),
        (b"vhdxfile", "vhdx"),
        (b"QED\0", "qed"),
        (b"LUKS\xba\xbe", "luks"),
        (b"<<< QEMU VM Virtual Disk Image >>>\n", "vdi"),
        (b"\xeb\x63\x90", "raw"),
        (b"", "raw"),
        (b"QFI", "raw"),
    ],
)
def test_other_formats_are_told_by_their_magic(magic: bytes, format: str) -> None:
    header = read_header(magic.ljust(len(magic) and 512, b"\0"), length_bytes=512)

    assert (header.format, header.virtual_bytes) == (format, 512)


@given(st.binary(max_size=400))
def test_any_bytes_are_raw_or_a_bad_image_at_worst(data: bytes) -> None:
    try:
        header = read_header(data, len(data))
    except BadImage:
        assert data.startswith(b"QFI\xfb")
        return
    assert header.virtual_bytes == len(data)


@given(rest=st.binary(max_size=300), version=st.sampled_from([2, 3]), bits=st.integers(9, 21))
def test_any_bytes_behind_a_qcow2_magic_raise_nothing_but_bad_image(
    rest: bytes, version: int, bits: int
) -> None:
    head = bytearray(b"QFI\xfb" + struct.pack(">I", version) + rest)
    if len(head) >= 24:
        head[20:24] = struct.pack(">I", bits)
    try:
        header = read_header(bytes(head), len(head))
    except BadImage:
        return
    assert header.format == "qcow2"


@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_flipped_byte_raises_nothing_but_bad_image(position: int, value: int) -> None:
    head = bytearray(a_header(backing=b"base.img", extensions=((BACKING_FORMAT, b"qcow2"),)))
    head[position % len(head)] = value
    try:
        read(bytes(head))
    except BadImage:
        return


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-o", "compat=0.10"],
        ["-o", "cluster_size=4096"],
        ["-o", "cluster_size=2097152"],
        ["-o", "extended_l2=on"],
        ["-o", "compression_type=zstd"],
        ["-o", "preallocation=metadata"],
        ["-F", "raw", "-b", "base.raw"],
    ],
    ids=" ".join,
)
def test_headers_that_qemu_writes_read_as_qemu_reads_them(
    options: list[str], tmp_path: Path
) -> None:
    (tmp_path / "base.raw").write_bytes(b"\0" * MIB)
    image = tmp_path / "disk.qcow2"
    _qemu_img(tmp_path, "create", "-q", "-f", "qcow2", *options, image.name, "64M")

    theirs = json.loads(_qemu_img(tmp_path, "info", "--output=json", image.name))
    ours = read_header(_head(image), image.stat().st_size)

    specific = theirs["format-specific"]["data"]
    assert ours.format == theirs["format"]
    assert ours.virtual_bytes == theirs["virtual-size"]
    assert ours.cluster_bytes == theirs["cluster-size"]
    assert ours.compat == specific["compat"]
    assert ours.backing_path == theirs.get("backing-filename", "")
    assert ours.backing_format == theirs.get("backing-filename-format", "")
    assert ("ext_l2" in ours.features) == specific.get("extended-l2", False)
    assert ("compression" in ours.features) == (specific.get("compression-type") == "zstd")
    assert ours.dirty == theirs["dirty-flag"]


def test_snapshots_bitmaps_and_data_files_that_qemu_makes_are_counted(tmp_path: Path) -> None:
    _qemu_img(tmp_path, "create", "-q", "-f", "qcow2", "a.qcow2", "8M")
    _qemu_img(tmp_path, "snapshot", "-c", "before", "a.qcow2")
    _qemu_img(tmp_path, "snapshot", "-c", "after", "a.qcow2")
    _qemu_img(tmp_path, "bitmap", "--add", "a.qcow2", "backup")
    _qemu_img(tmp_path, "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "b.qcow2", "8M")

    counted = read_header(_head(tmp_path / "a.qcow2"), 0)
    outside = read_header(_head(tmp_path / "b.qcow2"), 0)

    assert (counted.snapshots, counted.bitmaps, counted.data_file) == (2, 1, False)
    assert outside.data_file


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def _qemu_img(directory: Path, *arguments: str) -> str:
    return subprocess.run(
        ["qemu-img", *arguments], cwd=directory, check=True, capture_output=True, text=True
    ).stdout
