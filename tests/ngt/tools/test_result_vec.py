"""The readers of results, of the CLI's usage and of a guest's configuration."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.tools.guest_config import parse_guest_config
from app.ngt.tools.result_vec import is_success, read_results
from app.ngt.tools.usage import read_usage
from app.ngt.vocabulary import NO_ERROR, NO_FREE_CD_ROM_SLOT, ResultWord

LOG_LINES = (
    "2020-12-12 09:05:17,306Z:31766(0x7f33f5eaaa80):ZOO_INFO@log_env@960: Client environment:host.name=a",
    "I20250428 15:52:24.000553Z 207890(0x7fa820b953c0) zookeeper_init:994] result_vec: kNoError",
    "2020-12-12 09:05:17,309Z:31766(0x7f33f5e1f700):ZOO_WARN@check@1: vm_info_vec { result_vec: kNoError",
    "W0428 15:52:24.000553 207890 client.cc:12] slow }",
    "/etc/profile.d/os-security.sh: line 4: TMOUT: readonly variable",
)
quick = settings(deadline=None, max_examples=150)
words = st.one_of(
    st.sampled_from([NO_ERROR, NO_FREE_CD_ROM_SLOT, "k", "-7", "23"]),
    st.from_regex(r"k[A-Za-z0-9_]{1,20}", fullmatch=True),
)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])


@quick
@given(
    st.lists(st.tuples(words, st.sampled_from([" ", "\n", ", ", "\n  ", "; "]))),
    st.sampled_from(["result_vec: ", "result_vec:", "result_vec : "]),
)
def test_results_are_read_in_any_layout(members: list[tuple[str, str]], key: str) -> None:
    text = "".join(f"{key}{word}{separator}" for word, separator in members)
    assert read_results(text) == tuple(word for word, _ in members)


@quick
@given(st.lists(words), line_ends, st.lists(st.sampled_from(LOG_LINES), min_size=1))
def test_results_are_read_between_log_lines(members: list[str], line_end: str, logs: list[str]) -> None:
    lines = [line for word in members for line in (*logs, f"result_vec: {word}")]
    assert read_results(line_end.join([*lines, *logs])) == tuple(members)


def test_results_are_read_from_a_list() -> None:
    assert read_results("result_vec: [kNoError, 7,kNoFreeCdRomSlot]\nresult_vec: []") == (
        NO_ERROR,
        "7",
        NO_FREE_CD_ROM_SLOT,
    )


@pytest.mark.parametrize(
    "line",
    [
        "the last result_vec: kNoError was long ago",
        "retrying, result_vec: kNoError",
        "result_vec: kNoError was expected",
        "result_vec: kNoErrorI20250428 15:52:24.000553Z 1(0x7) close] bye",
        'echo "result_vec: kNoError"',
        "my_result_vec: kNoError",
        "result_vec kNoError",
        "result_vec: ",
        "result_vec: [kNoError",
        "",
    ],
)
def test_the_word_in_a_line_of_another_kind_is_no_result(line: str) -> None:
    assert read_results(f"{line}\n") == ()


@pytest.mark.parametrize(
    ("results", "expected", "success"),
    [
        (["kNoError"], 1, True),
        (["kNoError", "kNoError"], 2, True),
        ([], 1, False),
        ([], 0, False),
        (["kNoError"], 2, False),
        (["kNoError", "kNoError"], 1, False),
        (["kNoError", "kNoFreeCdRomSlot"], 2, False),
        (["kNoFreeCdRomSlot"], 1, False),
        (["0"], 1, False),
    ],
)
def test_success_is_as_many_results_as_vms_and_all_without_error(
    results: list[str],
    expected: int,
    success: bool,
) -> None:
    assert is_success([ResultWord(word) for word in results], expected) is success


# --- Usage, and the guest's configuration ---


def test_sub_commands_are_told_from_arguments_and_paths() -> None:
    usage = """
usage: nutanix_guest_tools_cli <sub_command> [--time_out=N]
  delete_vm_tools_entity <vm_uuid>   Deletes the entity, see /home/nutanix/bin/the_cli.
  refresh_vm_tools_entity [vm_uuids=string-containing vm_uuid1,vm_uuid2....] [threshold_days=number-of-days]
  get_leader_location, mount_guest_tools.
"""
    assert read_usage(usage) == {
        "delete_vm_tools_entity",
        "refresh_vm_tools_entity",
        "get_leader_location",
        "mount_guest_tools",
    }


@pytest.mark.parametrize(
    ("text", "ngt_uuid"),
    [
        ('\ufeff{"ngt_uuid": "D4DE685B-791a-4fbc-b916-6d5008bcbe2d"}\r\n', "d4de685b-791a-4fbc-b916-6d5008bcbe2d"),
        ('a banner\n{\n  "port": 2074,\n  "ngt_uuid": "x"\n}\n', "x"),
        ('{"ngt_uuid": ""}', None),
        ('{"ngt_uuid": 7}', None),
        ('{"ngt_uuid": "x"', None),
        ("[1]", None),
        ('{"ngt_uuid":' * 100_000 + "}" * 100_000, None),
        ("", None),
    ],
)
def test_the_ngt_uuid_of_a_guest_is_read_or_is_not_there(text: str, ngt_uuid: str | None) -> None:
    assert parse_guest_config(text) == ngt_uuid


# --- Whatever comes ---


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            ["result_vec", ":", " ", "\n", "kNoError", "[", "]", ",", "a_b", "<", "{", "}", '"ngt_uuid"', *LOG_LINES]
        )
        | st.text(max_size=5),
        max_size=40,
    ).map("".join)
)
def test_no_text_raises_anything(text: str) -> None:
    read_results(text)
    read_usage(text)
    parse_guest_config(text)


@pytest.mark.parametrize(
    "hostile", ["result_vec: ", "result_vec: a ", "[", "a_", " ", "<", "{", "result_vec: [a, ", "-"]
)
def test_no_text_takes_longer_than_a_test_may(hostile: str) -> None:
    for read in (read_results, read_usage, parse_guest_config):
        read(hostile * 20_000)
