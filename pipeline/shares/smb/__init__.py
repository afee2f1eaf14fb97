"""SMB client, without a mount: sessions, compound messages, files of a share and change notifications."""
