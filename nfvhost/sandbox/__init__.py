"""A private OVS-DPDK in a network namespace, for trying a plan with no risk."""
