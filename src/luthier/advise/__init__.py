"""Decides before spending: what each `auto` becomes, and why."""
