"""What a host may print, on purpose or by accident."""

import re

from hypothesis import strategies as st

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""The characters that a terminal or a reader obeys, and those that PostgreSQL does not take."""

_WORDS = (
    b'vm_info_vec {\n  vm_uuid: "20edafba-1b5c-4a7e-8d1f-000000000000"\n',
    b'  vm_name: "\\000\\033[2J\\342\\200\\256\\ud800"\n}\n',
    b"result_vec: kNoError\n",
    b"Error: Could not connect to Nutanix Gateway",
    b'{"data":[{"uuid":"20edafba-1b5c-4a7e-8d1f-000000000000","vmName":"\\u0000\\u001b\\ud800\\u202e"}],"status":0}',
    b'\n{"data":"\\u0000\\u001b\\ud800\\u202e","status":1}\n',
    b"    Id : 0::20edafba-1b5c-4a7e-8d1f-000000000000\n    Name : \x1b[2J\n\n",
    b"\nngtr-listing end ",
    b"\nngtr-look end ",
    b"ngtr-probe begin\nngtr-probe found a\nngtr-probe usage\nngtr-probe end\n",
    b"\nmarker begin a\nx\nmarker answer a ",
    b"\nmarker end\n",
    b"-----BEGIN CERTIFICATE-----\n",
    b'{"ngt_uuid": "\\u0000\\ud800"}',
    "²１٣".encode(),
    b"9" * 5000,
    b"\x00",
    b"\xff\xfe",
    b"\x1b]0;title\x07",
    "\u202e\u2066".encode(),
)
any_output = st.lists(st.one_of(st.sampled_from(_WORDS), st.binary(max_size=40)), max_size=8).map(b"".join)
