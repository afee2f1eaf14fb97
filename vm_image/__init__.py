"""The guest image of QEMU machines: Debian, Samba, the QEMU guest agent, the agent of this project and one game."""
