"""Holds the fake Cloud KMS against Google's own Python client.

    python check.py BASE_URL

The client parses the answers, so it says whether they are well-formed, and it turns errors into its own
exceptions, so it says whether they are the service's. Prints a line for each check and a last line with
the counts; the exit code is 1 if any check failed.
"""

import json
import sys
import urllib.request
import uuid

from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import kms_v1 as kms
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceRestTransport,
)
from google.protobuf import duration_pb2, field_mask_pb2, wrappers_pb2

LOCATION = "projects/check/locations/europe-west3"
State = kms.CryptoKeyVersion.CryptoKeyVersionState
Purpose = kms.CryptoKey.CryptoKeyPurpose
Algorithm = kms.CryptoKeyVersion.CryptoKeyVersionAlgorithm

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Fake:
    """The client, and a key ring of its own for each check."""

    def __init__(self, base_url):
        scheme, host = base_url.rstrip("/").split("://")
        self.base_url = f"{scheme}://{host}"
        self.client = kms.KeyManagementServiceClient(
            transport=KeyManagementServiceRestTransport(
                host=host, url_scheme=scheme, credentials=AnonymousCredentials()
            )
        )

    def ring(self):
        return self.client.create_key_ring(
            parent=LOCATION, key_ring_id=f"ring-{uuid.uuid4()}", key_ring={}
        )

    def key(self, ring=None, key_id="key", **fields):
        fields.setdefault("purpose", Purpose.ENCRYPT_DECRYPT)
        return self.client.create_crypto_key(
            parent=(ring or self.ring()).name,
            crypto_key_id=key_id,
            crypto_key=kms.CryptoKey(**fields),
        )

    def encrypt(self, name, plaintext, aad=b""):
        return self.client.encrypt(
            request={
                "name": name,
                "plaintext": plaintext,
                "plaintext_crc32c": crc32c(plaintext),
                "additional_authenticated_data": aad,
                "additional_authenticated_data_crc32c": crc32c(aad),
            },
            retry=None,
        )

    def decrypt(self, name, ciphertext, aad=b""):
        return self.client.decrypt(
            request={
                "name": name,
                "ciphertext": ciphertext,
                "ciphertext_crc32c": crc32c(ciphertext),
                "additional_authenticated_data": aad,
                "additional_authenticated_data_crc32c": crc32c(aad),
            },
            retry=None,
        )

    def set_state(self, version, state):
        return self.client.update_crypto_key_version(
            crypto_key_version=kms.CryptoKeyVersion(name=version, state=state),
            update_mask=field_mask_pb2.FieldMask(paths=["state"]),
        )

    def control(self, method, path, body):
        request = urllib.request.Request(
            f"{self.base_url}/_fake/{path}",
            method=method,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def crc32c(data):
    """CRC32C (Castagnoli) bit by bit, so that nothing is shared with the fake."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# Over REST the client chooses the exception by the HTTP code alone.
EXCEPTIONS = {
    "INVALID_ARGUMENT": exceptions.BadRequest,
    "FAILED_PRECONDITION": exceptions.BadRequest,
    "PERMISSION_DENIED": exceptions.Forbidden,
    "NOT_FOUND": exceptions.NotFound,
    "ALREADY_EXISTS": exceptions.Conflict,
    "RESOURCE_EXHAUSTED": exceptions.TooManyRequests,
    "UNAVAILABLE": exceptions.ServiceUnavailable,
}


def refused(status, message, call):
    expected = EXCEPTIONS[status]
    try:
        call()
    except exceptions.GoogleAPICallError as error:
        assert type(error) is expected, f"{type(error).__name__} instead of {expected.__name__}: {error}"
        body = error.response.json()["error"]
        assert body["status"] == status, f"{body['status']} instead of {status}: {error}"
        assert body["code"] == error.code, f"code {body['code']} under HTTP {error.code}"
        assert message in error.message, f"the message is {error.message!r}"
        return error
    raise AssertionError(f"not refused with {status}")


def violations(error):
    return [violation["type"] for detail in error.details for violation in detail["violations"]]


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@check
def the_checksum_is_castagnolis(fake):
    assert crc32c(b"123456789") == 0xE3069283


@check
def a_key_ring_is_made_and_read(fake):
    ring = fake.ring()
    assert ring.name.startswith(f"{LOCATION}/keyRings/ring-")
    assert ring.create_time.year > 2000
    assert fake.client.get_key_ring(name=ring.name) == ring


@check
def a_key_ring_is_not_made_twice(fake):
    ring_id = fake.ring().name.rsplit("/", 1)[1]
    refused(
        "ALREADY_EXISTS",
        "already exists",
        lambda: fake.client.create_key_ring(parent=LOCATION, key_ring_id=ring_id, key_ring={}),
    )


@check
def an_id_of_other_letters_is_refused(fake):
    for bad in ["", "a b", "a.b", "x" * 64]:
        refused(
            "INVALID_ARGUMENT",
            "keyRingId",
            lambda: fake.client.create_key_ring(parent=LOCATION, key_ring_id=bad, key_ring={}),
        )


@check
def key_rings_are_listed_page_by_page(fake):
    location = f"projects/check-{uuid.uuid4()}/locations/global"
    for number in range(5):
        fake.client.create_key_ring(parent=location, key_ring_id=f"r{number}", key_ring={})
    pages = list(fake.client.list_key_rings(request={"parent": location, "page_size": 2}).pages)
    assert [len(page.key_rings) for page in pages] == [2, 2, 1]
    assert [page.total_size for page in pages] == [5, 5, 5]
    names = [ring.name.rsplit("/", 1)[1] for page in pages for ring in page.key_rings]
    assert names == ["r0", "r1", "r2", "r3", "r4"]


@check
def a_key_has_its_first_version_as_primary(fake):
    key = fake.key(labels={"app": "check"})
    assert key.purpose == Purpose.ENCRYPT_DECRYPT
    assert key.labels == {"app": "check"}
    assert key.version_template.algorithm == Algorithm.GOOGLE_SYMMETRIC_ENCRYPTION
    assert key.version_template.protection_level == kms.ProtectionLevel.SOFTWARE
    assert key.destroy_scheduled_duration.days == 30
    assert key.primary.name == f"{key.name}/cryptoKeyVersions/1"
    assert key.primary.state == State.ENABLED
    assert key.primary.algorithm == Algorithm.GOOGLE_SYMMETRIC_ENCRYPTION
    assert fake.client.get_crypto_key(name=key.name) == key
    assert fake.client.get_crypto_key_version(name=key.primary.name) == key.primary


@check
def a_key_can_be_made_without_a_version(fake):
    key = fake.client.create_crypto_key(
        request={
            "parent": fake.ring().name,
            "crypto_key_id": "empty",
            "crypto_key": {"purpose": Purpose.ENCRYPT_DECRYPT},
            "skip_initial_version_creation": True,
        }
    )
    assert not key.primary.name
    assert list(fake.client.list_crypto_key_versions(parent=key.name)) == []
    refused("FAILED_PRECONDITION", "primary", lambda: fake.encrypt(key.name, b"x"))


@check
def a_key_without_purpose_is_refused(fake):
    refused(
        "INVALID_ARGUMENT",
        "purpose",
        lambda: fake.key(purpose=Purpose.CRYPTO_KEY_PURPOSE_UNSPECIFIED),
    )


@check
def keys_are_listed_page_by_page(fake):
    ring = fake.ring()
    for number in range(3):
        fake.key(ring, f"k{number}")
    pages = list(fake.client.list_crypto_keys(request={"parent": ring.name, "page_size": 2}).pages)
    assert [len(page.crypto_keys) for page in pages] == [2, 1]
    assert pages[0].crypto_keys[0].primary.state == State.ENABLED


@check
def what_is_not_there_is_not_found(fake):
    ring = fake.ring().name
    for call in [
        lambda: fake.client.get_key_ring(name=f"{ring}-none"),
        lambda: fake.client.list_crypto_keys(parent=f"{ring}-none"),
        lambda: fake.client.get_crypto_key(name=f"{ring}/cryptoKeys/none"),
        lambda: fake.client.get_crypto_key_version(
            name=f"{ring}/cryptoKeys/none/cryptoKeyVersions/1"
        ),
        lambda: fake.encrypt(f"{ring}/cryptoKeys/none", b"x"),
        lambda: fake.decrypt(f"{ring}/cryptoKeys/none", b"x"),
        lambda: fake.client.destroy_crypto_key_version(
            name=f"{fake.key().name}/cryptoKeyVersions/9"
        ),
    ]:
        refused("NOT_FOUND", "not found", call)


@check
def what_is_encrypted_decrypts(fake):
    key = fake.key().name
    for plaintext in [b"x", bytes(range(256)), b"\0" * 65536]:
        for aad in [b"", b"aad", bytes(range(256))]:
            encrypted = fake.encrypt(key, plaintext, aad)
            assert encrypted.name == f"{key}/cryptoKeyVersions/1"
            assert encrypted.protection_level == kms.ProtectionLevel.SOFTWARE
            assert encrypted.verified_plaintext_crc32c
            assert encrypted.verified_additional_authenticated_data_crc32c
            assert encrypted.ciphertext_crc32c == crc32c(encrypted.ciphertext)
            decrypted = fake.decrypt(key, encrypted.ciphertext, aad)
            assert decrypted.plaintext == plaintext
            assert decrypted.plaintext_crc32c == crc32c(plaintext)
            assert decrypted.used_primary
            assert decrypted.protection_level == kms.ProtectionLevel.SOFTWARE


@check
def an_empty_plaintext_decrypts_to_an_empty_one(fake):
    key = fake.key().name
    decrypted = fake.decrypt(key, fake.encrypt(key, b"", b"aad").ciphertext, b"aad")
    assert decrypted.plaintext == b""
    assert "plaintext_crc32c" in decrypted and decrypted.plaintext_crc32c == 0


@check
def without_checksums_nothing_is_verified(fake):
    key = fake.key().name
    encrypted = fake.client.encrypt(name=key, plaintext=b"x")
    assert not encrypted.verified_plaintext_crc32c
    assert not encrypted.verified_additional_authenticated_data_crc32c
    assert fake.client.decrypt(name=key, ciphertext=encrypted.ciphertext).plaintext == b"x"


@check
def a_checksum_of_other_data_is_refused(fake):
    key = fake.key().name
    ciphertext = fake.encrypt(key, b"x", b"aad").ciphertext
    requests = [
        (fake.client.encrypt, {"plaintext": b"x"}, "plaintext"),
        (fake.client.encrypt, {"additional_authenticated_data": b"x"}, "additional_authenticated_data"),
        (fake.client.decrypt, {"ciphertext": ciphertext}, "ciphertext"),
        (
            fake.client.decrypt,
            {"ciphertext": ciphertext, "additional_authenticated_data": b"aad"},
            "additional_authenticated_data",
        ),
    ]
    for call, fields, field in requests:
        request = {"name": key, **fields, f"{field}_crc32c": wrappers_pb2.Int64Value(value=1).value}
        message = f"The checksum in field {field}_crc32c did not match the data in field {field}."
        refused("INVALID_ARGUMENT", message, lambda: call(request=request))


@check
def another_aad_a_flipped_bit_and_a_foreign_ciphertext_are_refused(fake):
    key, other = fake.key().name, fake.key().name
    ciphertext = fake.encrypt(key, b"plaintext", b"aad").ciphertext
    failed = "Decryption failed"
    refused("INVALID_ARGUMENT", failed, lambda: fake.decrypt(key, ciphertext, b"another"))
    refused("INVALID_ARGUMENT", failed, lambda: fake.decrypt(key, ciphertext))
    refused("INVALID_ARGUMENT", failed, lambda: fake.decrypt(other, ciphertext, b"aad"))
    refused("INVALID_ARGUMENT", failed, lambda: fake.decrypt(key, b"", b"aad"))
    for position in range(len(ciphertext)):
        altered = flipped(ciphertext, position)
        refused("INVALID_ARGUMENT", failed, lambda: fake.decrypt(key, altered, b"aad"))


@check
def more_than_64_kib_is_refused(fake):
    key = fake.key().name
    longest = b"x" * 65536
    assert fake.decrypt(key, fake.encrypt(key, longest, longest).ciphertext, longest).plaintext == longest
    refused("INVALID_ARGUMENT", "65536", lambda: fake.encrypt(key, longest + b"x"))
    refused("INVALID_ARGUMENT", "65536", lambda: fake.encrypt(key, b"x", longest + b"x"))


@check
def a_key_in_an_hsm_takes_8_kib_of_both(fake):
    key = fake.key(version_template={"protection_level": kms.ProtectionLevel.HSM})
    assert key.primary.protection_level == kms.ProtectionLevel.HSM
    assert fake.encrypt(key.name, b"x" * 8000, b"y" * 192).protection_level == kms.ProtectionLevel.HSM
    refused("INVALID_ARGUMENT", "8192", lambda: fake.encrypt(key.name, b"x" * 8000, b"y" * 193))


@check
def rotating_the_primary_keeps_older_ciphertexts_readable(fake):
    key = fake.key()
    old = fake.encrypt(key.name, b"old").ciphertext
    version = fake.client.create_crypto_key_version(parent=key.name, crypto_key_version={})
    assert version.name == f"{key.name}/cryptoKeyVersions/2"
    assert fake.encrypt(key.name, b"x").name == key.primary.name, "a new version is not yet primary"
    updated = fake.client.update_crypto_key_primary_version(
        name=key.name, crypto_key_version_id="2"
    )
    assert updated.primary.name == version.name
    new = fake.encrypt(key.name, b"new")
    assert new.name == version.name
    assert fake.decrypt(key.name, old).plaintext == b"old"
    assert not fake.decrypt(key.name, old).used_primary
    assert fake.decrypt(key.name, new.ciphertext).used_primary
    assert fake.encrypt(key.primary.name, b"x").name == key.primary.name, "a version can be named"


@check
def versions_are_listed_page_by_page(fake):
    key = fake.key().name
    for _ in range(2):
        fake.client.create_crypto_key_version(parent=key, crypto_key_version={})
    pages = list(fake.client.list_crypto_key_versions(request={"parent": key, "page_size": 2}).pages)
    assert [len(page.crypto_key_versions) for page in pages] == [2, 1]
    assert {v.state for page in pages for v in page.crypto_key_versions} == {State.ENABLED}


@check
def a_disabled_version_neither_encrypts_nor_decrypts(fake):
    key = fake.key()
    ciphertext = fake.encrypt(key.name, b"x").ciphertext
    assert fake.set_state(key.primary.name, State.DISABLED).state == State.DISABLED
    message = f"{key.primary.name} is not enabled, current state is: DISABLED."
    for call in [
        lambda: fake.encrypt(key.name, b"x"),
        lambda: fake.decrypt(key.name, ciphertext),
    ]:
        error = refused("FAILED_PRECONDITION", message, call)
        assert violations(error) == ["KEY_DISABLED"]
    assert fake.set_state(key.primary.name, State.ENABLED).state == State.ENABLED
    assert fake.decrypt(key.name, ciphertext).plaintext == b"x"


@check
def a_destroyed_version_can_be_restored_until_its_time_has_come(fake):
    key = fake.key(destroy_scheduled_duration=duration_pb2.Duration(seconds=86400))
    ciphertext = fake.encrypt(key.name, b"x").ciphertext
    destroyed = fake.client.destroy_crypto_key_version(name=key.primary.name)
    assert destroyed.state == State.DESTROY_SCHEDULED
    assert abs((destroyed.destroy_time - destroyed.create_time).days - 1) <= 1
    error = refused(
        "FAILED_PRECONDITION",
        "current state is: DESTROY_SCHEDULED",
        lambda: fake.decrypt(key.name, ciphertext),
    )
    assert violations(error) == ["KEY_DESTROY_SCHEDULED"]
    restored = fake.client.restore_crypto_key_version(name=key.primary.name)
    assert restored.state == State.DISABLED
    assert not restored.destroy_time
    fake.set_state(key.primary.name, State.ENABLED)
    assert fake.decrypt(key.name, ciphertext).plaintext == b"x"

    fake.client.destroy_crypto_key_version(name=key.primary.name)
    fake.control("POST", "destructions", {"version": key.primary.name})
    gone = fake.client.get_crypto_key_version(name=key.primary.name)
    assert gone.state == State.DESTROYED and gone.destroy_event_time
    refused(
        "FAILED_PRECONDITION",
        "current state is: DESTROYED",
        lambda: fake.decrypt(key.name, ciphertext),
    )
    refused(
        "FAILED_PRECONDITION",
        "DESTROYED",
        lambda: fake.client.restore_crypto_key_version(name=key.primary.name),
    )
    refused(
        "FAILED_PRECONDITION",
        "DESTROYED",
        lambda: fake.set_state(key.primary.name, State.ENABLED),
    )


@check
def a_key_that_signs_does_not_encrypt(fake):
    key = fake.key(
        purpose=Purpose.ASYMMETRIC_SIGN,
        version_template={"algorithm": Algorithm.EC_SIGN_P256_SHA256},
    )
    assert not key.primary.name
    refused(
        "FAILED_PRECONDITION",
        "has incorrect key purpose: ASYMMETRIC_SIGN",
        lambda: fake.encrypt(key.name, b"x"),
    )
    refused(
        "FAILED_PRECONDITION",
        "purpose",
        lambda: fake.client.update_crypto_key_primary_version(
            name=key.name, crypto_key_version_id="1"
        ),
    )


@check
def what_is_denied_is_forbidden(fake):
    key = fake.key().name
    ciphertext = fake.encrypt(key, b"x").ciphertext
    calls = {
        "encrypt": ("useToEncrypt", lambda: fake.encrypt(key, b"x")),
        "decrypt": ("useToDecrypt", lambda: fake.decrypt(key, ciphertext)),
        "get": ("cryptoKeys.get", lambda: fake.client.get_crypto_key(name=key)),
    }
    for denied, (permission, call) in calls.items():
        fake.control("POST", "denials", {"key": key, "denied": [denied]})
        error = refused("PERMISSION_DENIED", permission, call)
        assert error.reason == "IAM_PERMISSION_DENIED"
        for other, (_, allowed) in calls.items():
            if other != denied:
                allowed()
    fake.control("POST", "denials", {"key": key, "denied": []})


@check
def quota_and_outage_are_googles_exceptions(fake):
    key = fake.key().name
    for fault, status, message in [
        ("resource-exhausted", "RESOURCE_EXHAUSTED", "Quota exceeded"),
        ("unavailable", "UNAVAILABLE", "unavailable"),
    ]:
        fake.control("POST", "faults", {"fault": fault, "method": "Encrypt", "times": 1})
        refused(status, message, lambda: fake.encrypt(key, b"x"))
        fake.encrypt(key, b"x")


@check
def googles_client_retries_an_outage_to_success(fake):
    key = fake.key().name
    fake.control("POST", "faults", {"fault": "unavailable", "method": "Encrypt", "times": 2})
    assert fake.client.encrypt(name=key, plaintext=b"x").name


@check
def a_flipped_bit_shows_in_the_checksum(fake):
    key = fake.key().name
    fake.control("POST", "faults", {"fault": "flipped-bit", "method": "Encrypt", "times": 1})
    encrypted = fake.encrypt(key, b"x")
    assert encrypted.ciphertext_crc32c != crc32c(encrypted.ciphertext)
    good = fake.encrypt(key, b"x").ciphertext
    fake.control("POST", "faults", {"fault": "flipped-bit", "method": "Decrypt", "times": 1})
    decrypted = fake.decrypt(key, good)
    assert decrypted.plaintext_crc32c != crc32c(decrypted.plaintext)


@check
def an_answer_for_another_key_shows_in_the_name(fake):
    key = fake.key().name
    fake.control("POST", "faults", {"fault": "another-key", "method": "Encrypt", "times": 1})
    encrypted = fake.encrypt(key, b"x")
    assert not encrypted.name.startswith(f"{key}/")
    assert encrypted.ciphertext_crc32c == crc32c(encrypted.ciphertext)


@check
def calls_are_counted(fake):
    key = fake.key().name
    before = fake.control("GET", "calls", {})
    fake.encrypt(key, b"x")
    fake.encrypt(key, b"x")
    after = fake.control("GET", "calls", {})
    assert after["Encrypt"] - before.get("Encrypt", 0) == 2
    assert after["CreateCryptoKey"] == before["CreateCryptoKey"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    fake = Fake(sys.argv[1])
    failed = 0
    for function in CHECKS:
        try:
            function(fake)
        except Exception as error:
            failed += 1
            why = " ".join(str(error).split()) or "the assertion does not hold"
            line = error.__traceback__
            while line.tb_next and line.tb_next.tb_frame.f_code.co_filename == __file__:
                line = line.tb_next
            print(f"FAILED {function.__name__}: line {line.tb_lineno}: {type(error).__name__}: {why}")
        else:
            print(f"ok {function.__name__}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
