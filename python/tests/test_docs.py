"""The examples of the docstrings and of the pages run, and show what they say."""

import doctest
import inspect

import nbd_extents
import pytest

MEMBERS = [(name, getattr(nbd_extents, name)) for name in nbd_extents.__all__]


def documented():
    yield "nbd_extents", nbd_extents
    for name, member in MEMBERS:
        yield name, member
        if inspect.isclass(member):
            for part, value in vars(member).items():
                if not part.startswith("_") and part != "exit_code":
                    yield f"{name}.{part}", getattr(member, part)


@pytest.mark.parametrize("name, member", list(documented()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_public_name_is_documented_and_its_examples_run(name, member):
    text = inspect.getdoc(member)
    assert text, f"{name} has no docstring"
    names = {name: value for name, value in MEMBERS}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0
