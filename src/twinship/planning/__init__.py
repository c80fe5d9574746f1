"""What plans are made of: tables of checks, and the facts a plan is bound to. Pure."""
