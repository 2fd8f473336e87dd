"""The page of the cases says what the tests hold."""

from tests.field.cases import CASES, README, held_by, page


def test_each_marker_names_a_case() -> None:
    assert held_by().keys() <= CASES.keys()


def test_the_page_is_written_from_the_markers() -> None:
    assert README.read_text() == page(), "run `python -m tests.field.cases`"
