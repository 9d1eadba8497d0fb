r"""Separators of canonical lines: a token is `field \x02 value \x03 weight`, tokens are joined by \x01."""

TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR = "\x01", "\x02", "\x03"
