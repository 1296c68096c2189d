"""Secret fields of inputs: encrypted before they are stored, decrypted by the SDK in the run.

A value is sealed with a password of its own, and that with the public key; the run gets the private key. What is
sealed of an object or array also names the schema it had. docs: secret_input; both SDKs read this form.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import string
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_TEXT, _JSON = "ENCRYPTED_VALUE", "ENCRYPTED_JSON"
_BASE64 = r"[-A-Za-z0-9+/]*={0,3}"
_ENCRYPTED = re.compile(f"({_TEXT}|{_JSON}):(?:({_BASE64}):)?({_BASE64}):({_BASE64})")
_CHARACTERS = string.ascii_letters + string.digits
_KEY_LENGTH, _IV_LENGTH, _HASH_LENGTH = 32, 16, 10
_KEY_BITS = 2048
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303  what the SDKs use
_NOT_HASHED = frozenset(
    {"title", "description", "sectionCaption", "sectionDescription", "nullable", "example", "prefill", "editor"}
)
_encode = msgspec.json.Encoder().encode


class InputKeys(msgspec.Struct, frozen=True):
    """A key pair in PEM; the private key is locked with the passphrase, without which SDKs decrypt nothing."""

    public_key: str
    private_key: str
    passphrase: str


def new_input_keys() -> InputKeys:
    """A key pair; takes some tenths of a second."""
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    passphrase = _random(_KEY_LENGTH)
    return InputKeys(
        public_key=private_key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        private_key=private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase.encode()),
        ).decode(),
        passphrase=passphrase,
    )


def locked_keys(text: str) -> InputKeys:
    """The key pair of its JSON text."""
    return msgspec.json.decode(text, type=InputKeys)


def key_variables(text: str) -> dict[str, str]:
    """The variables from which both SDKs take the private key. The one called a file holds the key, as base64."""
    keys = locked_keys(text)
    return {
        "APIFY_INPUT_SECRETS_PRIVATE_KEY_FILE": base64.b64encode(keys.private_key.encode()).decode(),
        "APIFY_INPUT_SECRETS_PRIVATE_KEY_PASSPHRASE": keys.passphrase,
    }


def is_encrypted(value: object) -> bool:
    """Whether a value has been encrypted already, here or by a client."""
    return isinstance(value, str) and _ENCRYPTED.fullmatch(value) is not None


def is_encrypted_for(value: object, field_type: object) -> bool:
    """Whether a value is the encrypted form of a field of this type."""
    match = _ENCRYPTED.fullmatch(value) if isinstance(value, str) else None
    return match is not None and (match[1] == _JSON or field_type == "string")


def fits_schema(value: object, field: dict[str, Any]) -> bool:
    """Whether the field still has the schema under which ``value`` was encrypted."""
    match = _ENCRYPTED.fullmatch(value) if isinstance(value, str) else None
    return match is not None and (not match[2] or match[2] == _schema_hash(field))


def encrypt(value: Any, field: dict[str, Any], public_key: str) -> str:
    """The encrypted form of the value of a secret field."""
    if isinstance(value, str):
        return f"{_TEXT}:{_seal(value.encode(), public_key)}"
    return f"{_JSON}:{_schema_hash(field)}:{_seal(_encode(value), public_key)}"


def decrypt(value: str, keys: InputKeys) -> Any:
    """The value of a secret field. Raises ``ValueError`` when it was encrypted for somebody else."""
    match = _ENCRYPTED.fullmatch(value)
    if match is None:
        raise ValueError("the value is not encrypted")
    private_key = serialization.load_pem_private_key(keys.private_key.encode(), keys.passphrase.encode())
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise TypeError("not an RSA key")
    password = private_key.decrypt(base64.b64decode(match[3]), _OAEP)
    try:
        opened = AESGCM(password[:_KEY_LENGTH]).decrypt(password[_KEY_LENGTH:], base64.b64decode(match[4]), None)
    except InvalidTag as error:
        raise ValueError("the value was changed after it had been encrypted") from error
    return opened.decode() if match[1] == _TEXT else msgspec.json.decode(opened)


def _seal(data: bytes, public_key: str) -> str:
    key, iv = _random(_KEY_LENGTH).encode(), _random(_IV_LENGTH).encode()
    loaded = serialization.load_pem_public_key(public_key.encode())
    if not isinstance(loaded, rsa.RSAPublicKey):
        raise TypeError("not an RSA key")
    password = base64.b64encode(loaded.encrypt(key + iv, _OAEP)).decode()
    return f"{password}:{base64.b64encode(AESGCM(key).encrypt(iv, data, None)).decode()}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_CHARACTERS) for _ in range(length))


def _schema_hash(field: dict[str, Any]) -> str:
    return hashlib.sha256(_encode(_normal(field))).hexdigest()[:_HASH_LENGTH]


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(value[key]) for key in sorted(value, key=_utf16) if key not in _NOT_HASHED}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _utf16(key: str) -> bytes:
    # JavaScript sorts by UTF-16 code units.
    return key.encode("utf-16-be")
