"""What a secured installation needs before its first start: certificates, keys, passwords, and whom it trusts."""
