from itertools import product
from types import SimpleNamespace

from tests.conftest import covering


class Case(SimpleNamespace):
    __hash__ = object.__hash__

    def __init__(self, **params):
        super().__init__(nodeid=str(params), callspec=SimpleNamespace(params=params))


def test_every_value_of_every_parameter_occurs_in_few_cases():
    cases = [Case(name=name, samples=n, chosen={"feed": feed}) for name, n, feed in product("abcde", (1, 3), "xy")]
    chosen = [case.callspec.params for case in covering(cases)]
    assert len(chosen) == 5 and {one["name"] for one in chosen} == set("abcde")
    assert {one["samples"] for one in chosen} == {1, 3} and {one["chosen"]["feed"] for one in chosen} == {"x", "y"}


def test_the_choice_does_not_depend_on_the_order():
    cases = [Case(name=name, samples=n) for name, n in product("abc", (1, 2, 3))]
    assert {one.nodeid for one in covering(cases)} == {one.nodeid for one in covering(cases[::-1])}


def test_of_one_list_of_values_all_are_kept():
    cases = [Case(name=name) for name in "abcd"]
    assert len(covering(cases)) == 4
