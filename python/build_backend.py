"""The build backend: maturin, with a source distribution that builds.

maturin puts the Rust packages that the wheel needs into it, and the repository's own Cargo.toml,
which names more members, tests and benches than are there. Those are taken out here.
"""

import io
import os
import re
import tarfile

import maturin
from maturin import (  # noqa: F401
    build_wheel,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

PACKAGES = '[".", "backup", "formats", "nbd-client"]'


def build_sdist(sdist_directory, config_settings=None):
    name = maturin.build_sdist(sdist_directory, config_settings)
    path = os.path.join(sdist_directory, name)
    with tarfile.open(path) as old, tarfile.open(path + ".new", "w:gz") as new:
        for member in old:
            data = old.extractfile(member).read()
            file = member.name.split("/", 1)[1]
            if file == "Cargo.toml":
                data = trimmed(data.decode()).encode()
            elif file == "pyproject.toml":
                data = data.replace(
                    b'build-backend = "build_backend"\nbackend-path = ["."]',
                    b'build-backend = "maturin"',
                )
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    os.replace(path + ".new", path)
    return name


def trimmed(manifest):
    """The manifest with the members that are there, and without targets of its own."""
    manifest = re.sub(r"(?m)^(members|default-members) = \[[^\]]*\]", rf"\1 = {PACKAGES}", manifest)
    return re.sub(r"(?ms)^\[\[(bench|example|test)\]\]\n.*?(?=^\[|\Z)", "", manifest)
