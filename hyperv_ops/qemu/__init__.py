"""QEMU machines on this computer: their processes, the monitor protocol and the guest agent."""
