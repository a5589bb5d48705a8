"""TLS, which the URI asks for: against qemu-nbd and nbdkit, with certificates that openssl makes."""

import pathlib
import shutil
import struct
import subprocess
import tempfile
import time

import nbd_extents
import pytest
from nbd_extents import LostConnectionError
from support import images, wire
from support.certificates import Authority
from support.server import serve
from test_survey_live import dirty_image
from test_waiting import ctrl_c


@pytest.fixture(scope="module")
def authorities():
    """Two authorities with a server's certificate each; the first has issued a client's as well."""
    with tempfile.TemporaryDirectory(prefix="nx") as folder:
        ours, theirs = (Authority(pathlib.Path(folder) / name) for name in ("ours", "theirs"))
        for authority in (ours, theirs):
            authority.issue("server")
        ours.issue("client")
        yield ours, theirs


def qemu_over_tls(image, socket, authority, *, verify_client=False, **options):
    verify = "yes" if verify_client else "no"
    credentials = f"tls-creds-x509,id=tls0,endpoint=server,dir={authority.folder},verify-peer={verify}"
    return images.qemu_nbd(image, socket, "--object", credentials, "--tls-creds", "tls0", **options)


def uri(socket, **parameters):
    """An `nbds+unix` URI; `tls_hostname` and the like are parameters of it."""
    more = "".join(f"&{name.replace('_', '-')}={value}" for name, value in parameters.items())
    return f"nbds+unix:///?socket={socket}{more}"


def trusted(socket, authority, **parameters):
    """One that trusts this authority, without a certificate of the client's."""
    folder = socket.parent / "trusted"
    folder.mkdir(exist_ok=True)
    shutil.copy(authority.folder / "ca-cert.pem", folder)
    return uri(socket, tls_certificates=folder, **parameters)


def test_qemu(folder, authorities):
    image, socket = dirty_image(folder, 1), folder / "s"
    with images.qemu_nbd(image, folder / "plain"):
        plain = nbd_extents.survey(images.uri(folder / "plain"))
        whole = nbd_extents.Client(images.uri(folder / "plain")).read(0, plain.size)
    with qemu_over_tls(image, socket, authorities[0]):
        encrypted = trusted(socket, authorities[0])
        assert nbd_extents.survey(encrypted) == plain
        with nbd_extents.Client(encrypted) as client:
            assert client.read(0, plain.size) == whole
        assert nbd_extents.backup(encrypted, folder / "full") == plain.totals()


def test_nbdkit_and_writes(folder, authorities):
    socket, content = folder / "s", bytes(range(256)) * 4096
    command = ["nbdkit", "-f", "-U", socket, "--tls=require", f"--tls-certificates={authorities[0].folder}"]
    process = subprocess.Popen([*command, "memory", "8M"])
    try:
        while not images.is_listening(socket):
            time.sleep(0.01)
        with nbd_extents.Client(trusted(socket, authorities[0])) as client:
            client.write(1 << 20, content)
            client.flush()
            assert client.read(1 << 20, len(content)) == content
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "parameters",
    [
        {"tls_hostname": "localhost"}, {"tls_hostname": "127.0.0.1"}, {"tls_verify_peer": 0},
        {"x_tls_fingerprint": "its own"},
    ],
    ids=str,
)
def test_who_is_trusted(folder, authorities, parameters):
    ours, theirs = authorities
    if "x_tls_fingerprint" in parameters:
        parameters = {"x_tls_fingerprint": ours.fingerprint()}
    # those that ask no authority do without the server's
    known = theirs if parameters.keys() & {"tls_verify_peer", "x_tls_fingerprint"} else ours
    with qemu_over_tls(dirty_image(folder, 1), folder / "s", ours):
        assert nbd_extents.survey(trusted(folder / "s", known, **parameters)).size == 8 << 20


def test_who_is_not(folder, authorities):
    ours, theirs = authorities
    socket = folder / "s"
    wrong = [
        (trusted(socket, theirs), "authority"),
        (uri(socket, tls_certificates=ours.folder, tls_hostname="other.example"), "other.example"),
        (uri(socket, x_tls_fingerprint=theirs.fingerprint()), "fingerprint"),
        (uri(socket, tls_certificates=folder / "nothing"), "nothing"),
    ]
    with qemu_over_tls(dirty_image(folder, 1), socket, ours):
        for address, word in wrong:
            for call in (nbd_extents.survey, nbd_extents.Client):
                with pytest.raises(LostConnectionError, match=word):
                    call(address)


def test_a_server_that_asks_for_the_clients_certificate(folder, authorities):
    ours, theirs = authorities
    with qemu_over_tls(dirty_image(folder, 1), folder / "s", ours, verify_client=True):
        assert nbd_extents.survey(uri(folder / "s", tls_certificates=ours.folder)).size == 8 << 20
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(trusted(folder / "s", ours))


def test_both_sides_must_want_it(folder, authorities):
    image = dirty_image(folder, 1)
    with qemu_over_tls(image, folder / "tls", authorities[0]):
        with pytest.raises(LostConnectionError, match="TLS"):
            nbd_extents.survey(images.uri(folder / "tls"))
    with images.qemu_nbd(image, folder / "plain"):
        with pytest.raises(LostConnectionError, match="TLS"):
            nbd_extents.survey(trusted(folder / "plain", authorities[0]))


@pytest.mark.parametrize(
    "parameter", ["tls-verify-peer=2", "tls-type=psk", "tls-hostname=", "x-tls-fingerprint=12"]
)
def test_parameters_that_are_none(parameter):
    with pytest.raises(ValueError, match=parameter.split("=")[0]):
        nbd_extents.survey(f"nbds://localhost/?{parameter}")


def silent_after_starttls(conn):
    conn.send(wire.HELLO + wire.OPTION + struct.pack(">H", 3))
    wire.unpack(conn.sock, ">I8sII")
    conn.send(struct.pack(">QIII", wire.OPTION_REPLY, 5, wire.REP_ACK, 0))
    time.sleep(20)


def test_a_server_that_is_silent_in_the_handshake_of_tls(folder, authorities):
    with serve(folder / "s", silent_after_starttls):
        address = trusted(folder / "s", authorities[0])
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(address, timeout=0.4)
        ctrl_c(f"nbd_extents.survey({address!r})")
