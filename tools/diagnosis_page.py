"""Writes docs/diagnosis.md from the rules of the findings: `make docs`. A test fails when the page is stale."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "diagnosis.md"

_HEAD = """\
# Why a VM's NGT does not work

Written by `tools/diagnosis_page.py`. `GET /vms/{vm_uuid}/ngt/diagnosis` (scope `vms:read`) says it in sentences:

```
curl -H "X-API-Key: $KEY" "$URL/vms/$VM/ngt/diagnosis"
```

- With the scope `clusters:scan` too, a worker looks at the VM's cluster first, unless a scan has just done that; the
  answer waits for it (`wait`, 10 seconds by default, at most 20). `look=false` spares the cluster. Without the scope,
  or when the look fails or is not done in time, the answer is from what is stored: `look_message` says so, and
  `seen_at` how old it is.
- A VM that was never seen is looked for on the cluster that `cluster` names.
- `findings` has the most important first. Each has a stable `code`, a `severity`, what it means for the VM
  (`message`), and the `next_step`. Where a call goes on from it, it is there as it stands: `call_method`, `call_path`
  and, where a body is needed, `call_body`. It has the members without which it would be refused: `create_if_absent`
  for a VM without an entity, `when_powered_off` for one that is off, `restart_agent` and `accept_unverified` where
  this service cannot reach the guest.
- `healthy` is true when no finding is an error or a warning. The last finding then says what was checked.
- A cause keeps its consequences quiet: of a VM whose certificate has expired nobody is told that its link is not
  active.
- A computed date is never called valid, and an active link proves nothing.

| code | severity | what was found | what to do | call |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    sys.path.insert(0, str(ROOT))
    from app.ngt.diagnosis.findings import FINDINGS, CallKind  # noqa: PLC0415 - found only with the path above

    calls = {
        None: "",
        CallKind.RENEW: "`POST /vms/{vm_uuid}/ngt/renew`",
        CallKind.RETRY: "`POST /jobs/{job_id}/retry`, else a renewal",
        CallKind.AGENT_RESTARTED: "`POST /jobs/{job_id}/agent-restarted`, after the job's end `/retry`",
    }
    rows = [
        f"| `{code}` | {rule.severity} | {rule.title} | {rule.next_step} | {calls[rule.call]} |"
        for code, rule in FINDINGS.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
