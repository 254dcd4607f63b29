"""Users, roles and workspaces from one file, and where their sign-ins are kept."""
