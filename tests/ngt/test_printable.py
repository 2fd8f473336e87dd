"""Text of a host becomes printable: shown, storable, never obeyed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ngt.errors import Fault, FaultCode
from app.ngt.printable import LONGEST_FIELD, LONGEST_MESSAGE, decode_output, printable, printable_lines
from tests.ngt.hostile import OBEYED, any_output


@given(any_output)
@pytest.mark.field("B1", "B3")
def test_any_bytes_have_a_text_that_nothing_obeys(output: bytes) -> None:
    text = decode_output(output)
    assert not OBEYED.search(text)
    assert text.encode().decode() == text
    assert decode_output(bytearray(output)) == text
    assert decode_output(text.encode()) == text


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp"))))
@pytest.mark.field("B1")
def test_the_text_of_any_language_stays_as_it_is_in_utf_8_and_in_utf_16_with_its_mark(text: str) -> None:
    assert decode_output(text.encode()) == text
    assert decode_output(b"\xff\xfe" + text.encode("utf-16-le")) == text
    assert decode_output(b"\xfe\xff" + text.encode("utf-16-be")) == text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.field("B1")
def test_utf_16_of_windows_is_read_with_and_without_its_mark(encoding: str) -> None:
    assert decode_output("-----BEGIN\r\nZürich\r\n".encode(encoding)) == "-----BEGIN\nZürich\n"


@pytest.mark.field("B1", "B3")
def test_line_ends_become_one_kind_and_tabs_stay() -> None:
    assert printable_lines("a\tb\r\nc\rd\n") == "a\tb\nc\nd\n"
    assert printable_lines("\x1b[2J\x00\x9b\u202e\ud800") == "\ufffd[2J\ufffd\ufffd\ufffd\ufffd"


@given(st.text())
@pytest.mark.field("B1", "B3")
def test_a_field_is_one_bounded_line(text: str) -> None:
    field = printable(text * 50)
    assert len(field) <= LONGEST_FIELD
    assert not OBEYED.search(field)
    assert "\n" not in field
    assert printable(field) == field.strip()


@pytest.mark.field("B1", "B3")
def test_the_message_of_a_fault_is_printable_and_bounded() -> None:
    fault = Fault(FaultCode.ANSWER_LOST, "cut: \x1b[31m\x00\u202e" + "x" * 1_000_000)
    assert fault.message.startswith("cut: \ufffd[31m\ufffd\ufffdx")
    assert len(fault.message) == LONGEST_MESSAGE
