"""The validator daemon: loop, mailbox, dissemination, peers, gateway."""
