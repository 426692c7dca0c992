"""(Host, Profile) -> Plan, pure: the same input gives the same bytes."""
