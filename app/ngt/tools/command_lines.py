"""The command line of each tool of a CVM; a cluster's configuration may replace any of them."""

from dataclasses import dataclass, replace

from app.ngt.vocabulary import VmUuid

CLI = "nutanix_guest_tools_cli"

# Nutanix does not document the sub-command that lists the VM tools entities: the usage text of the CLI names it.
_QUERY_SUB_COMMANDS = (
    "query_vm_tools_entities",
    "list_vm_tools_entities",
    "query_vm_tools_entity",
    "list_vm_tools_entity",
    "query_vm_info",
    "list_vm_info",
    "query_vms",
    "list_vms",
)


@dataclass(frozen=True, slots=True)
class Tools:
    """The command line of each tool; `{vm_uuid}` and `{application}` are the only placeholders.

    The defaults are those of AOS 5.18 (KB-8120) and, for `refresh`, of newer clusters. Where `query` is not given, the
    usage text of the CLI names it.
    """

    profile: str = "/etc/profile"
    delete: str = f"{CLI} delete_vm_tools_entity {{vm_uuid}}"
    create: str = f"{CLI} create_vm_tools_entity {{vm_uuid}}"
    mount: str = f"{CLI} mount_guest_tools {{vm_uuid}}"
    refresh: str = f"{CLI} refresh_vm_tools_entity vm_uuids={{vm_uuid}}"
    query: str | None = None
    list_vms: str = "ncli vm ls -json=true"
    list_vms_text: str = "ncli vm list"
    enable_application: str = "ncli ngt enable-applications application-names={application} vm_id={vm_uuid}"
    disable_application: str = "ncli ngt disable-applications application-names={application} vm_id={vm_uuid}"

    def with_query_of(self, sub_commands: frozenset[str]) -> "Tools":
        """The tools with the query that a CLI with these sub-commands has, unless `query` is given."""
        if self.query is not None:
            return self
        offered = next((name for name in _QUERY_SUB_COMMANDS if name in sub_commands), None)
        return self if offered is None else replace(self, query=f"{CLI} {offered}")

    def programs(self) -> tuple[str, ...]:
        """The programs that must be found on a CVM, each once."""
        lines = (self.delete, self.create, self.mount, self.list_vms, self.query or self.delete)
        return tuple(dict.fromkeys(line.split()[0] for line in lines))


def for_vm(line: str, vm_uuid: VmUuid, *, application: str = "") -> str:
    """A tool's command line for one VM."""
    return line.replace("{vm_uuid}", vm_uuid).replace("{application}", application)
