"""An authority and its certificates, made by openssl, in folders as qemu-nbd, nbdkit and libnbd read them."""

import pathlib
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(*words, cwd):
    subprocess.run(["openssl", *map(str, words)], check=True, cwd=cwd, capture_output=True)


class Authority:
    """Certificates in a folder of their own, which also has the authority's."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        openssl(
            "req", "-x509", *KEY, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-days", 30,
            "-subj", f"/CN=authority of {self.folder.name}", cwd=self.folder,
        )

    def issue(self, role, names="DNS:localhost,IP:127.0.0.1"):
        """Makes `ROLE-cert.pem` and `ROLE-key.pem`, of a server or a client; the folder."""
        usage = {"server": "serverAuth", "client": "clientAuth"}[role]
        (self.folder / "extensions").write_text(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
            f"extendedKeyUsage={usage}\nsubjectAltName={names}\n"
        )
        openssl(
            "req", *KEY, "-keyout", f"{role}-key.pem", "-out", "request.pem",
            "-subj", f"/CN=test {role}", cwd=self.folder,
        )
        signed = [
            "-in", "request.pem", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem",
            "-CAcreateserial", "-extfile", "extensions",
        ]
        openssl("x509", "-req", *signed, "-days", 30, "-out", f"{role}-cert.pem", cwd=self.folder)
        return self.folder

    def fingerprint(self):
        """The SHA-256 fingerprint of the server's certificate, as openssl prints it."""
        certificate = self.folder / "server-cert.pem"
        command = ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return printed.strip().split("=")[1]
