import re
from pathlib import Path

import pytest

from benchmarks import mutations

ROOT = Path(__file__).parents[2]


def test_the_text_of_each_mutation_occurs_once():
    for mutation in mutations.MUTATIONS:
        assert (ROOT / "invact" / mutation.path).read_text().count(mutation.old) == 1, mutation.name


def test_the_tests_of_each_mutation_exist():
    for mutation in mutations.MUTATIONS:
        assert mutation.tests, mutation.name
        for test in mutation.tests:
            file, _, name = test.partition("::")
            text = (ROOT / "tests" / file).read_text()
            function = name.partition("[")[0]
            assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), test


@pytest.mark.slow
def test_every_mutation_is_noticed():
    assert not mutations.survivors(mutations.MUTATIONS)
