//! What a machine may not see of other machines' pods, with its own token through its own tunnel.
