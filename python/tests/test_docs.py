"""The examples of the docstrings and of README.md run, and show what they say."""

import asyncio
import doctest
import inspect
import pathlib
import re
import subprocess
import sys
import tempfile

import nbd_extents
import pytest
from support import images

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
PUBLIC = {name: getattr(nbd_extents, name) for name in nbd_extents.__all__}


def documented():
    yield "nbd_extents", nbd_extents
    for name, member in PUBLIC.items():
        yield name, member
        if inspect.isclass(member):
            inherited = ("exit_code", "add_note", "with_traceback", "args")
            for part in vars(member):
                if not part.startswith("_") and part not in inherited:
                    yield f"{name}.{part}", getattr(member, part)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """The export of README.md: 64 MiB, with a bitmap b0, 1 MiB of dirty data and 1 MiB of dirty zeroes."""
    folder = tmp_path_factory.mktemp("docs")
    for line in shell_lines():
        if not line.startswith(("pip", "qemu-nbd")):
            subprocess.run(line, shell=True, check=True, cwd=folder)
    with images.qemu_nbd(folder / "disk.qcow2", folder / "nbd.sock", "-B", "b0"):
        yield images.uri(folder / "nbd.sock")


def shell_lines():
    """The commands of README.md; one that goes on after a backslash is one line here."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in re.sub(r"\\\n *", "", block).splitlines()]


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(
    "name, member", list(documented()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_public_name_is_documented_and_its_examples_run(uri, name, member):
    text = inspect.getdoc(member)
    assert text, f"{name} has no docstring"
    test = doctest.DocTestParser().get_doctest(text, {**PUBLIC, "uri": uri}, name, None, None)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0


def test_each_function_and_class_has_an_example():
    exempt = {
        name
        for name, member in PUBLIC.items()
        if inspect.isclass(member) and issubclass(member, Exception)
    }
    exempt |= {"Request", "Source", "Step"}  # shown where they are made
    for name, member in PUBLIC.items():
        assert name in exempt or ">>>" in inspect.getdoc(member), name


def test_the_readmes_start(uri):
    start = python_blocks()[0]
    folder = uri.split("socket=")[1].removesuffix("/nbd.sock")
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL).group(1)
    printed = subprocess.run(
        [sys.executable, "-c", start], cwd=folder, capture_output=True, text=True, check=True
    )
    assert printed.stdout == shown
    assert len(start.splitlines()) == 3


def test_the_readmes_other_examples(uri, capsys, tmp_path, monkeypatch):
    numpy, stored = pytest.importorskip("numpy"), []
    names = {
        **PUBLIC,
        "nbd_extents": nbd_extents,
        "asyncio": asyncio,
        "numpy": numpy,
        "uri": uri,
        "store": lambda offset, data: stored.append(("copy", offset, len(data))),
        "store_zeroes": lambda start, length: stored.append(("zero", start, length)),
    }
    _, backup, streams, columns, waiting = python_blocks()
    exec(backup, names)
    assert sum(length for word, _, length in stored if word == "copy") == 1 << 20
    assert stored[-1] == ("zero", 8 << 20, 1 << 20)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "target").write_bytes(bytes(64 << 20))
    with tempfile.TemporaryDirectory(prefix="nx") as folder:
        socket = pathlib.Path(folder) / "s"
        with images.qemu_nbd(tmp_path / "target", socket, image_format="raw", read_only=False):
            exec(streams, {**names, "target": images.uri(socket)})
    assert capsys.readouterr().out == "sunday 1048576 []\nmonday 1048576 []\n"
    names["polars"] = polars_if_there()
    exec(columns, names)
    assert "2097152 bytes are dirty" in capsys.readouterr().out
    exec(waiting, names)
    maps = asyncio.run(names["maps"]([uri, uri]))
    assert [map.size for map in maps] == [64 << 20] * 2


def polars_if_there():
    try:
        import polars
    except ImportError:
        return type("Polars", (), {"DataFrame": staticmethod(dict)})
    return polars


def test_the_stubs_name_what_there_is():
    """Each public name and method has its type, and no other has one."""
    import ast

    path = pathlib.Path(nbd_extents.__file__).parent / "_nbd_extents.pyi"
    assert (path.parent / "py.typed").exists()
    tree = ast.parse(path.read_text())
    typed = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            functions = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            fields = {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
            typed[node.name] = functions | fields
        elif isinstance(node, ast.FunctionDef):
            typed[node.name] = [argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]]
    module = nbd_extents._nbd_extents
    for name in (name for name in dir(module) if not name.startswith("_")):
        member = getattr(module, name)
        if inspect.isclass(member):
            there = {part for part in vars(member) if not part.startswith("_")}
            assert {part for part in typed[name] if not part.startswith("_")} == there, name
        else:
            assert list(inspect.signature(member).parameters) == typed[name], name
    for name in PUBLIC:
        assert name in typed or issubclass(PUBLIC[name], Exception)
