"""Extended attributes of files in layers: reading PAX records, and formatting values.

Source: star(1), "SCHILY.xattr"; libarchive, tar(5), "LIBARCHIVE.xattr"; containerd and Go's
archive/tar, which set what `SCHILY.xattr.` names; microsoft/hcsshim, pkg/ociwclayer and
go-winio, backuptar, for `MSWINDOWS.`; Linux, include/uapi/linux/capability.h and posix_acl_xattr.h.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHILY, _LIBARCHIVE, _WINDOWS = b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"MSWINDOWS."
#: Records with names of their own: star's ACLs and flags, and labels of tar in old Fedoras.
_OTHERS = {
    b"SCHILY.acl.access": b"SCHILY.acl.access",
    b"SCHILY.acl.default": b"SCHILY.acl.default",
    b"SCHILY.fflags": b"SCHILY.fflags",
    b"RHT.security.selinux": b"security.selinux",
}
_PREFIXES = (_SCHILY, _LIBARCHIVE, _WINDOWS)

#: Bytes of a value that are kept; a longer one (IMA signatures) is replaced by its hash.
MAX_VALUE = 256
#: Bytes of memory per attribute besides its name and value.
_OVERHEAD = 200
#: Characters of a value in a table.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Xattr:
    """An extended attribute, or a Windows record of a file.

    `name`: as in the file system, `security.capability`; `MSWINDOWS.…` for Windows. `value`: up to
    `MAX_VALUE` bytes; the SHA-256 of a longer one.
    """

    name: str
    value: bytes
    size: int

    @property
    def text(self) -> str:
        """The value for people: capabilities by name, text unchanged, anything else in hex."""
        if self.size > MAX_VALUE:
            return f"{self.size} bytes, sha256:{self.value.hex()}"
        decoder = _DECODERS.get(self.name)
        return (decoder(self.value) if decoder is not None else None) or _plain(self.value)


Xattrs = tuple[Xattr, ...]


def is_xattr(key: bytes) -> bool:
    """Return whether a PAX record holds an attribute."""
    return key.startswith(_PREFIXES) or key in _OTHERS


def read_xattrs(records: Mapping[bytes, bytes]) -> Xattrs:
    """Read the attributes among PAX records, by name; `SCHILY.xattr.` precedes libarchive's."""
    found: dict[str, Xattr] = {}
    for key, value in sorted(records.items()):
        name = key
        content = value
        if key.startswith(_SCHILY):
            name = key[len(_SCHILY) :]
        elif key.startswith(_LIBARCHIVE):
            name = unquote_to_bytes(key[len(_LIBARCHIVE) :])
            content = _base64(value)
        elif key in _OTHERS:
            name = _OTHERS[key]
        elif not key.startswith(_WINDOWS):
            continue
        if name == b"security.selinux":
            # The kernel includes the NUL at the end, and not every tar does.
            content = content.removesuffix(b"\0")
        text = name.decode("utf-8", "surrogateescape")
        size = len(content)
        found[text] = Xattr(
            text, content if size <= MAX_VALUE else hashlib.sha256(content).digest(), size
        )
    return tuple(found[name] for name in sorted(found))


def cost(xattrs: Xattrs) -> int:
    """Return the approximate bytes of memory of attributes."""
    return sum(_OVERHEAD + 4 * len(xattr.name) + len(xattr.value) for xattr in xattrs)


def shown(text: str) -> str:
    """Truncate a value for a table."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _base64(value: bytes) -> bytes:
    """Decode base64 without padding, as libarchive writes it; return other text unchanged."""
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error:
        return value


_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]+")


def _plain(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if not value or _PRINTABLE.fullmatch(text):
        return f'"{text}"'
    return f"0x{value.hex()}"


#: By bit. Source: Linux 6.9, include/uapi/linux/capability.h.
_CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
#: Bytes by revision: a word of flags, pairs of permitted and inheritable words, in the last an id.
_REVISIONS = {1: "<III", 2: "<IIIII", 3: "<IIIIII"}
_EFFECTIVE = 1


def _capability(value: bytes) -> str | None:
    """Format file capabilities as cap_to_text(3): `cap_net_raw+ep`; None if malformed."""
    revision = value[3] if len(value) > 3 else 0  # noqa: PLR2004 - the high byte of the first word
    layout = _REVISIONS.get(revision)
    if layout is None or len(value) != struct.calcsize(layout):
        return None
    flags, *words = struct.unpack(layout, value)
    owner = words.pop() if revision == 3 else None  # noqa: PLR2004 - as in the table
    permitted = sum(word << (32 * at) for at, word in enumerate(words[::2]))
    inheritable = sum(word << (32 * at) for at, word in enumerate(words[1::2]))
    named: dict[str, list[str]] = {}
    for bit in range(32 * len(words) // 2):
        letters = ""
        if flags & _EFFECTIVE and (permitted | inheritable) >> bit & 1:
            letters += "e"
        letters += "i" if inheritable >> bit & 1 else ""
        letters += "p" if permitted >> bit & 1 else ""
        if letters.strip("e"):
            name = f"cap_{_CAPABILITIES[bit]}" if bit < len(_CAPABILITIES) else str(bit)
            named.setdefault(letters, []).append(name)
    every = len(_CAPABILITIES)
    text = " ".join(
        f"{','.join(names) if len(names) < every else 'all'}+{letters}"
        for letters, names in named.items()
    )
    if owner is not None:
        return f"{text or 'none'} [rootid={owner}]"
    return (text or "none") + (" [v1]" if revision == 1 else "")


_ACL_VERSION, _ACL_HEADER, _ACL_ENTRY = 2, 4, struct.Struct("<HHI")
#: Tags of entries. Source: Linux, include/linux/posix_acl.h.
_ACL_TAGS = {1: "user:", 2: "user:", 4: "group:", 8: "group:", 16: "mask:", 32: "other:"}
_ACL_WITH_ID = frozenset({2, 8})


def _acl(value: bytes) -> str | None:
    """Format an ACL in its short text form: `user::rw-,user:1000:r--`."""
    body = value[_ACL_HEADER:]
    if value[:_ACL_HEADER] != _ACL_VERSION.to_bytes(4, "little") or len(body) % _ACL_ENTRY.size:
        return None
    entries = []
    for tag, permissions, number in _ACL_ENTRY.iter_unpack(body):
        if tag not in _ACL_TAGS:
            return None
        who = _ACL_TAGS[tag] + (str(number) if tag in _ACL_WITH_ID else "")
        letters = "".join(
            letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))
        )
        entries.append(f"{who}:{letters}")
    return ",".join(entries)


#: By bit. Source: MS-FSCC, 2.6, "File Attributes".
_WINDOWS_ATTRIBUTES = {
    0x1: "readonly", 0x2: "hidden", 0x4: "system", 0x10: "directory", 0x20: "archive",
    0x80: "normal", 0x100: "temporary", 0x200: "sparse", 0x400: "reparse", 0x800: "compressed",
    0x1000: "offline", 0x2000: "not indexed", 0x4000: "encrypted",
}  # fmt: skip
_DECIMAL = re.compile(rb"[0-9]{1,10}")


def _windows_attributes(value: bytes) -> str | None:
    if not _DECIMAL.fullmatch(value):
        return None
    number = int(value)
    names = [name for bit, name in _WINDOWS_ATTRIBUTES.items() if number & bit]
    rest = number & ~sum(_WINDOWS_ATTRIBUTES)
    return ",".join([*names, *([f"0x{rest:x}"] if rest else [])]) or "none"


def _descriptor(value: bytes) -> str | None:
    """Format a security descriptor by its hash: the text form would fill a screen."""
    raw = _base64(value)
    return f"security descriptor of {len(raw)} bytes, sha256:{hashlib.sha256(raw).hexdigest()[:12]}"


_DECODERS = {
    "security.capability": _capability,
    "system.posix_acl_access": _acl,
    "system.posix_acl_default": _acl,
    "MSWINDOWS.fileattr": _windows_attributes,
    "MSWINDOWS.rawsd": _descriptor,
}
